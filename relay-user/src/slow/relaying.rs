//! What becomes of one datagram: the checks, the learning, the rewriting. No socket, no ring and no
//! clock; a worker gives it a buffer and the time.

use std::ops::Range;

use relay_abi::{
    demultiplex::{Protocol, demultiplex},
    flow::{Address, Endpoint, FlowEntry},
    reception::{Arrival, ticks},
    relay,
    rtp::{self, RtpHeader},
    verdict::Reason,
};
use zerocopy::FromBytes;

use super::{
    Discard, LastOutput, SlowEvents,
    headers::{self, Hop},
    ice::Component,
    served::Served,
    shared::Translation,
};
use crate::{
    rtcp::{Heard, Sent, Translator},
    srtp::SrtpError,
};

/// What is known of a datagram besides its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub source: Endpoint,
    /// Where it was sent to.
    pub local: Endpoint,
    pub hop: Hop,
    /// Nanoseconds of the monotonic clock.
    pub now: u64,
}

/// An IP packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    /// Where it is in the buffer.
    pub packet: Range<usize>,
    pub from: Address,
    pub to: Address,
    pub content: Content,
}

/// What leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Rtp,
    Rtcp,
    /// The answer to a check.
    Stun,
    /// The answer to one that was refused.
    StunRefusal,
}

/// The TTL or hop limit of what begins here, before the one that every packet loses.
const OWN: Hop = Hop {
    limit: 65,
    service: 0,
};

/// What a flow asks of its worker.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub events: &'a SlowEvents,
    pub kernel: Option<&'a dyn LastOutput>,
}

impl Served {
    /// Relays the datagram whose content is at `payload` of `buffer`; [`headers::LONGEST`] octets
    /// before it and [`crate::srtp::TRAILER`] behind it are room.
    ///
    /// # Errors
    /// The reason for which it ends here, already counted in the flow.
    pub(super) fn relay(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        payload: Range<usize>,
        around: Surroundings<'_>,
    ) -> Result<Departure, Discard> {
        let result = self.decide(received, buffer, payload, around);
        match &result {
            Err(discard) => {
                self.shared.dropped();
                if discard.is_of_source() {
                    self.shared.srtp_failed();
                }
            }
            Ok(departure) if departure.content == Content::StunRefusal => self.shared.dropped(),
            Ok(_) => {}
        }
        self.tell(around.events);
        result
    }

    fn decide(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        payload: Range<usize>,
        around: Surroundings<'_>,
    ) -> Result<Departure, Discard> {
        let on_rtcp_port = received.local.port.get() % 2 == 1;
        let content = buffer.get(payload.clone()).ok_or(Discard::TooLarge)?;
        match demultiplex(content) {
            Protocol::Stun => self.answer_check(received, buffer, payload, on_rtcp_port),
            Protocol::Dtls => Err(Discard::Dtls),
            Protocol::Rtcp => self.relay_rtcp(received, buffer, payload, on_rtcp_port),
            Protocol::Rtp | Protocol::Other if on_rtcp_port => Err(Discard::BadRtcp),
            Protocol::Rtp => self.relay_rtp(received, buffer, payload, around),
            Protocol::Other => {
                relay::check_source(&self.entry, &received.source)?;
                Err(Discard::BadRtp)
            }
        }
    }

    /// Answers a check of the leg's ICE, to where it came from.
    fn answer_check(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        payload: Range<usize>,
        on_rtcp_port: bool,
    ) -> Result<Departure, Discard> {
        let source = received.source;
        let ice = self.ice.as_deref_mut().ok_or(Discard::Stun)?;
        if !self.sources.allows(&source) {
            return Err(Discard::ForeignSource);
        }
        let component = match on_rtcp_port {
            true => Component::Rtcp,
            false => Component::Rtp,
        };
        let content = buffer.get(payload.clone()).ok_or(Discard::TooLarge)?;
        let answered = ice.answer(content, &source, component, received.now)?;
        let content = match answered.refusal {
            Some(_) => Content::StunRefusal,
            None => {
                self.choose_pair();
                Content::Stun
            }
        };
        let response = answered.response.octets();
        let end = payload.start + response.len();
        buffer
            .get_mut(payload.start..end)
            .ok_or(Discard::TooLarge)?
            .copy_from_slice(response);
        depart(
            buffer,
            payload.start..end,
            [&received.local, &source],
            OWN,
            &FlowEntry::default(),
            content,
        )
    }

    fn relay_rtp(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        payload: Range<usize>,
        around: Surroundings<'_>,
    ) -> Result<Departure, Discard> {
        let octets = payload.len();
        relay::check_source(&self.entry, &received.source)?;
        let content = buffer.get(payload.clone()).ok_or(Discard::TooLarge)?;
        let header = match self.unprotect {
            Some(_) => rtp::parse_protected(content),
            None => rtp::parse(content),
        };
        let header = *header.ok_or(Discard::BadRtp)?;
        self.find_payload_type(header.payload_type());

        let checked = relay::check_stream(&self.entry, &header);
        match checked {
            // A held source is unprotected all the same, or its rollover counter would be lost.
            Ok(_) | Err(Reason::Held) => {}
            Err(Reason::NotPinned) => {
                if !self.may_pin(&received.source, received.now) {
                    return Err(Discard::ForeignSource);
                }
            }
            Err(Reason::NewSsrc) => {
                if !self.may_change(&header, received.now) {
                    return Err(Discard::SsrcRate);
                }
            }
            Err(Reason::PayloadType) => {
                self.take_index(&header, buffer, payload);
                return Err(Discard::PayloadType);
            }
            Err(reason) => return Err(reason.into()),
        }
        if received.hop.limit <= 1 && checked != Err(Reason::Held) {
            return Err(Discard::TtlExpired);
        }

        let mut length = octets;
        if let Some(context) = &mut self.unprotect {
            let content = buffer.get_mut(payload.clone()).ok_or(Discard::TooLarge)?;
            length = context.unprotect(content)?;
            let plain = content.get(..length).ok_or(Discard::SrtpOther)?;
            rtp::parse(plain).ok_or(Discard::BadRtp)?;
        }
        let payload_type = match checked {
            Ok(payload_type) => {
                if self.restarts(&header)? {
                    self.learn(&received.source, &header, received.now, around.kernel);
                }
                payload_type
            }
            Err(Reason::NotPinned | Reason::NewSsrc) => {
                self.note_change(&header, received.now);
                self.learn(&received.source, &header, received.now, around.kernel);
                relay::check_stream(&self.entry, &header)?
            }
            Err(reason) => return Err(reason.into()),
        };

        let rtp = buffer
            .get_mut(payload.clone())
            .and_then(|content| RtpHeader::mut_from_prefix(content).ok())
            .map(|(rtp, _)| rtp)
            .ok_or(Discard::BadRtp)?;
        relay::rewrite(&self.entry, payload_type, rtp);
        let left = *rtp;

        let to = self.destination()?;
        let from = self.entry.from;
        if let Some(context) = &mut self.protect {
            let room = buffer.get_mut(payload.start..).ok_or(Discard::TooLarge)?;
            length = context.protect(room, length).map_err(outgoing)?;
        }
        let departure = depart(
            buffer,
            payload.start..payload.start + length,
            [&from, &to],
            received.hop,
            &self.entry,
            Content::Rtp,
        )?;

        self.reception.record(&Arrival {
            generation: self.entry.generation.get(),
            ticks: ticks(received.now, self.entry.clock_rate.get()),
            sequence: header.sequence.get(),
            timestamp: header.timestamp.get(),
            sequence_out: left.sequence.get(),
            timestamp_out: left.timestamp.get(),
        });
        self.last_seen = received.now;
        self.shared.relayed(octets, received.now, &self.reception);
        Ok(departure)
    }

    /// Counts a packet of the source that has a payload type which was not negotiated. After half a
    /// turn of the sequence number that nobody has counted, nothing would be authentic any more.
    fn take_index(&mut self, header: &RtpHeader, buffer: &mut [u8], payload: Range<usize>) {
        let known = FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
        if !self.entry.has(known) || header.ssrc != self.entry.ssrc_in {
            return;
        }
        if let (Some(context), Some(content)) = (&mut self.unprotect, buffer.get_mut(payload)) {
            // What is refused counts nothing, and is dropped for its payload type all the same.
            let _ = context.unprotect(content);
        }
    }

    /// Where RTP goes: to the other leg's learned peer, or to where its SDP says.
    fn destination(&mut self) -> Result<Endpoint, Discard> {
        let learned = self.opposite().and_then(Translation::destination);
        reachable(learned.unwrap_or(self.entry.to))
    }

    /// Where RTCP goes.
    fn rtcp_destination(&mut self) -> Result<Endpoint, Discard> {
        let multiplexed = self.rtcp.multiplexed;
        let learned = self.opposite().and_then(|opposite| {
            if multiplexed {
                opposite.destination()
            } else {
                opposite.knows(Translation::RTCP).then_some(opposite.rtcp)
            }
        });
        reachable(learned.unwrap_or(self.rtcp.to))
    }

    fn relay_rtcp(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        payload: Range<usize>,
        on_rtcp_port: bool,
    ) -> Result<Departure, Discard> {
        let source = &received.source;
        let admitted = if !on_rtcp_port {
            if self.entry.has(FlowEntry::PINNED) {
                self.entry.peer == *source
            } else {
                self.admits(source)
            }
        } else if let Some(ice) = &self.ice {
            ice.has_checked(source, Component::Rtcp)
        } else if self.translation.knows(Translation::RTCP) {
            self.translation.rtcp == *source
        } else {
            self.sources.admits_rtcp(source, &self.entry)
        };
        if !admitted {
            return Err(Discard::ForeignSource);
        }
        if received.hop.limit <= 1 {
            return Err(Discard::TtlExpired);
        }

        let mut length = payload.len();
        let content = buffer.get_mut(payload.clone()).ok_or(Discard::TooLarge)?;
        if let Some(context) = &mut self.unprotect {
            length = context.unprotect_rtcp(content)?;
        }
        let translator = self.translator();
        let content = content.get_mut(..length).ok_or(Discard::SrtpOther)?;
        translator
            .translate(content)
            .map_err(|_| Discard::BadRtcp)?;
        if on_rtcp_port && self.ice.is_none() {
            self.learn_rtcp(source);
        }

        let to = self.rtcp_destination()?;
        let from = self.rtcp.from;
        if let Some(context) = &mut self.protect {
            let room = buffer.get_mut(payload.start..).ok_or(Discard::TooLarge)?;
            length = context.protect_rtcp(room, length)?;
        }
        let departure = depart(
            buffer,
            payload.start..payload.start + length,
            [&from, &to],
            received.hop,
            &self.entry,
            Content::Rtcp,
        )?;
        self.shared.relayed_rtcp();
        Ok(departure)
    }

    fn translator(&mut self) -> Translator {
        let heard = self
            .opposite()
            .filter(|opposite| opposite.knows(Translation::SSRC))
            .map(|opposite| Heard {
                ssrc_out: opposite.ssrc_out.get(),
                ssrc_in: opposite.ssrc_in.get(),
                sequence_shift: opposite.sequence_shift.get(),
            });
        let entry = &self.entry;
        Translator {
            sent: Sent {
                ssrc_in: entry
                    .has(FlowEntry::SSRC_KNOWN)
                    .then(|| entry.ssrc_in.get()),
                ssrc_out: entry.ssrc_out.get(),
                timestamp_offset: entry.timestamp_offset.get(),
            },
            heard,
        }
    }
}

/// Makes the IP packet of the UDP payload at `payload` of `buffer`.
fn depart(
    buffer: &mut [u8],
    payload: Range<usize>,
    [from, to]: [&Endpoint; 2],
    hop: Hop,
    entry: &FlowEntry,
    content: Content,
) -> Result<Departure, Discard> {
    let start = headers::write(buffer, payload.start, payload.len(), from, to, hop, entry)?;
    Ok(Departure {
        packet: start..payload.end,
        from: from.address,
        to: to.address,
        content,
    })
}

/// Refuses an endpoint that nobody can be reached at.
fn reachable(to: Endpoint) -> Result<Endpoint, Discard> {
    let nowhere =
        to.address == Address::UNSPECIFIED || to.address == Address::v4([0; 4]) || to.port == 0;
    if nowhere {
        Err(Discard::NoDestination)
    } else {
        Ok(to)
    }
}

/// Why RTP was not protected.
fn outgoing(error: SrtpError) -> Discard {
    match error {
        SrtpError::Replay => Discard::Repeated,
        error => error.into(),
    }
}

impl From<SrtpError> for Discard {
    fn from(error: SrtpError) -> Self {
        match error {
            SrtpError::Authentication => Self::SrtpAuthentication,
            SrtpError::Replay => Self::SrtpReplay,
            SrtpError::NoRoom => Self::TooLarge,
            _ => Self::SrtpOther,
        }
    }
}
