//! One call's offers and answers.

use rand::CryptoRng;
use relay_user::media::{RemoteMedia, SrtpKeys, Stream};

use super::{
    Direction, SdpError,
    agreement::{
        AgreedFormat, AgreedLeg, Agreement, NegotiatedLeg, NegotiatedMedia, Secrets, by_side, of,
    },
    codec::Format,
    crypto::Crypto,
    exchange::{self, Taken},
    ice::{LocalIce, OwnIce},
    leg::LegState,
    local::{Layout, LocalDescription},
    policy::{LegPolicy, Side, SrtpPolicy},
    remote::{Audio, Description, Transport},
};
use crate::config::Hold;

/// The SDP of a call with two legs.
///
/// An exchange is [`offer`](Self::offer), one or more [`answer`](Self::answer)s (each early dialog
/// may bring one), then [`commit`](Self::commit); or [`rollback`](Self::rollback) when the request
/// that carried it failed. Either side may offer. What is returned by `offer` and `answer` is the
/// body for the *other* side. An error leaves everything as it was.
///
/// Towards each side the `o=` line keeps one session id and counts its version; our SRTP keys, the
/// order of the `m=` lines and the meaning of every payload type stay for the life of the call.
///
/// The bodies hold keys where a leg is SRTP: they belong in a SIP message and nowhere else.
#[derive(Debug)]
pub struct Negotiation {
    pub(super) legs: [LegState; 2],
    /// Boxed: most calls are up and have none.
    pub(super) exchange: Option<Box<Exchange>>,
    pub(super) agreed: Option<Agreement>,
    /// A leg whose peer has said nothing yet, whatever was agreed there before.
    pub(super) fresh: Option<Side>,
}

const _: () = assert!(size_of::<Negotiation>() <= 640);

/// An offer on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) offerer: Side,
    pub(super) audio: Audio,
    /// The `m=` lines of the offer, which the answer repeats.
    pub(super) layout: Layout,
    /// Our `a=crypto` of the answer, and the peer's key that it belongs to.
    pub(super) crypto: Option<(Crypto, Crypto)>,
    /// Our ICE of the answer, and of the offer.
    pub(super) ice: [Option<OwnIce>; 2],
    /// What we offered the other side.
    pub(super) offered: LocalDescription,
    /// The offerer's own form of each format of `offered`.
    pub(super) origins: Vec<Format>,
    /// Set when the offer was made in the offerer's name: its numbers of payload types, with ours
    /// towards it where they differ.
    pub(super) said: Option<Vec<(u8, u8)>>,
    /// Digests of the `o=` lines of what leg A and leg B have said in it.
    pub(super) versions: [Option<u64>; 2],
    pub(super) answer: Option<Answer>,
    /// Before a call is answered: the exchange that holds unless this one has an answer.
    pub(super) before: Option<Before>,
}

/// An exchange that has an answer which is not committed, and what was agreed before it.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) exchange: Box<Exchange>,
    pub(super) agreed: Option<Agreement>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) audio: Audio,
    pub(super) agreement: Agreement,
}

impl Negotiation {
    /// The legs' policies, first A's then B's. `random` gives the session ids.
    pub fn new<R: CryptoRng + ?Sized>(policies: [LegPolicy; 2], random: &mut R) -> Self {
        Self {
            legs: policies.map(|policy| LegState::new(policy, random)),
            exchange: None,
            agreed: None,
            fresh: None,
        }
    }

    /// Whether an offer waits for [`commit`](Self::commit) or [`rollback`](Self::rollback), and
    /// who made it.
    #[must_use]
    pub fn pending(&self) -> Option<Side> {
        self.exchange.as_ref().map(|exchange| exchange.offerer)
    }

    /// The offer in `body` came from `from`: gives the offer for the other side. `random` gives
    /// SRTP keys where new ones are needed.
    ///
    /// # Errors
    /// [`SdpError::OfferPending`], and whatever makes the offer unusable; its
    /// [`status`](SdpError::status) is the response to the offerer. In a re-INVITE what was agreed
    /// before stays.
    pub fn offer<R: CryptoRng + ?Sized>(
        &mut self,
        from: Side,
        body: &[u8],
        random: &mut R,
    ) -> Result<String, SdpError> {
        if self.exchange.is_some() {
            return Err(SdpError::OfferPending);
        }
        let (taken, layout, origin) = self.read_offer(from, body)?;
        let body = self.make_offer(from, taken, layout, random)?;
        self.note_origin(from, origin);
        let leg = self.leg_mut(from);
        leg.received = leg.received.wrapping_add(1);
        Ok(body)
    }

    /// What is taken of an offer, its lines, and the digest of its `o=` line.
    pub(super) fn read_offer(
        &self,
        from: Side,
        body: &[u8],
    ) -> Result<(Taken, Layout, u64), SdpError> {
        let description = Description::parse(body)?;
        let other = &self.leg(from.other()).policy;
        let taken = exchange::take_offer(&description, &self.leg(from).policy, other)?;
        let titles = description.lines.into_iter().map(|line| line.title);
        let layout = Layout::new(titles, taken.place);
        Ok((taken, layout, description.origin))
    }

    pub(super) fn make_offer<R: CryptoRng + ?Sized>(
        &mut self,
        from: Side,
        taken: Taken,
        layout: Layout,
        random: &mut R,
    ) -> Result<String, SdpError> {
        let Taken {
            audio,
            crypto,
            formats,
            ..
        } = taken;
        let to = from.other();
        let numbers = self.leg(to).number(&formats);
        let (origins, formats): (Vec<Format>, Vec<Format>) = formats
            .into_iter()
            .zip(numbers)
            .filter_map(|(origin, number)| {
                let offered = Format {
                    payload_type: number?,
                    ..origin.clone()
                };
                Some((origin, offered))
            })
            .unzip();
        if !formats.iter().any(|format| format.codec.is_voice()) {
            return Err(SdpError::NoSharedCodec);
        }
        let crypto = crypto.map(|theirs| (self.leg_mut(from).crypto(&theirs, random), theirs));
        let ice = self.own_ice(from, &audio, random);
        let before = self.before(to);
        let policy = &self.leg(to).policy;
        let encrypted = match before {
            Some(leg) => leg.srtp().is_some(),
            None => policy.srtp != SrtpPolicy::Off,
        };
        let suites = if encrypted {
            let in_use = before.and_then(AgreedLeg::srtp);
            exchange::offered_suites(policy, in_use.map(|keys| keys.protect.suite))
        } else {
            Vec::new()
        };
        let mut offered = LocalDescription {
            port: policy.local,
            transport: match before {
                Some(leg) => leg.transport,
                None if policy.srtp == SrtpPolicy::Require => Transport::Savp,
                None => Transport::Avp,
            },
            formats,
            direction: match policy.hold {
                Hold::Inactive if audio.direction != Direction::SendReceive => Direction::Inactive,
                _ => audio.direction,
            },
            crypto: Vec::new(),
            // Who does not multiplex needs a candidate for RTCP (RFC 5761, section 5.1.3).
            ice: ice[1].as_ref().map(|ice| LocalIce {
                credentials: ice.own.clone(),
                rtcp: !before.is_some_and(|leg| leg.rtcp_mux),
            }),
            rtcp_mux: policy.rtcp_mux,
            rtcp_shared: false,
            ptime: audio.ptime,
            maxptime: audio.maxptime,
            layout: before.map(|leg| leg.layout.clone()).unwrap_or_default(),
        };
        offered.crypto = (1..)
            .zip(suites)
            .map(|(tag, suite)| Crypto::new(tag, self.leg_mut(to).key(suite, random)))
            .collect();
        let body = self.leg_mut(to).write(&offered);
        self.exchange = Some(Box::new(Exchange {
            offerer: from,
            audio,
            layout,
            crypto,
            ice,
            offered,
            origins,
            said: None,
            versions: [None; 2],
            answer: None,
            before: None,
        }));
        Ok(body)
    }

    /// The answer in `body` came from `from`: gives the answer for the side that offered. May be
    /// called again for the same offer (another early dialog, then the final response); the last
    /// one counts.
    ///
    /// # Errors
    /// [`SdpError::NotPending`], and whatever makes the answer unusable; the answer before it, if
    /// any, still counts.
    pub fn answer(&mut self, from: Side, body: &[u8]) -> Result<String, SdpError> {
        let answer = self.read_answer(from, body)?;
        Ok(self.leg_mut(from.other()).write(&answer))
    }

    /// Takes an answer, and gives ours to the offerer before it is written.
    pub(super) fn read_answer(
        &mut self,
        from: Side,
        body: &[u8],
    ) -> Result<LocalDescription, SdpError> {
        let exchange = self
            .exchange
            .as_ref()
            .filter(|exchange| exchange.offerer == from.other())
            .ok_or(SdpError::NotPending)?;
        let (origin, audio) = exchange.answered_audio(body)?;
        let answer = self.read_audio(from, audio)?;
        self.note_origin(from, origin);
        Ok(answer)
    }

    /// Notes the `o=` line of what a leg has said in the exchange on its way.
    pub(super) fn note_origin(&mut self, side: Side, origin: u64) {
        if let Some(exchange) = &mut self.exchange {
            exchange.versions = by_side(side, Some(origin), *of(&exchange.versions, side.other()));
        }
    }

    /// As [`Negotiation::read_answer`], of the answer's audio line.
    pub(super) fn read_audio(
        &mut self,
        from: Side,
        audio: Audio,
    ) -> Result<LocalDescription, SdpError> {
        let exchange = self.exchange.as_ref().ok_or(SdpError::NotPending)?;
        let matched = exchange::match_answer(&exchange.offered.formats, &audio.formats)?;
        let policy = &self.leg(from).policy;
        let answered = exchange::answered_crypto(&audio, &exchange.offered, policy.srtp)?;

        let repeated = exchange
            .answer
            .as_ref()
            .is_some_and(|answer| answer.audio == audio);
        let received = self.leg(from).received;
        let received = if repeated {
            received
        } else {
            received.wrapping_add(1)
        };
        let offerer = self.leg(exchange.offerer);
        let answer = exchange.answer_for(&offerer.policy, &audio, &matched);
        let agreement = exchange.agree(
            [Side::A, Side::B].map(|side| self.before(side)),
            &answer,
            &audio,
            &matched,
            answered,
            (offerer.received, received),
        );
        self.leg_mut(from).received = received;
        if let Some(exchange) = &mut self.exchange {
            exchange.answer = Some(Answer { audio, agreement });
        }
        Ok(answer)
    }

    /// The exchange is over and its last answer holds: the final response, or the ACK, that bore
    /// it has come.
    ///
    /// # Errors
    /// [`SdpError::NotPending`] when there is no answer to an offer; an unanswered offer stays
    /// pending.
    pub fn commit(&mut self) -> Result<(), SdpError> {
        let exchange = self
            .exchange
            .take_if(|exchange| exchange.answer.is_some())
            .ok_or(SdpError::NotPending)?;
        if exchange.said.is_none() || self.fresh != Some(exchange.offerer) {
            self.fresh = None;
        }
        for side in [Side::A, Side::B] {
            if let Some(origin) = of(&exchange.versions, side) {
                self.leg_mut(side).origin = *origin;
            }
        }
        self.agreed = exchange.answer.map(|answer| answer.agreement);
        Ok(())
    }

    /// The exchange has failed: what was agreed before holds again (RFC 3261, section 14.1).
    pub fn rollback(&mut self) {
        let before = self.exchange.take().and_then(|exchange| exchange.before);
        if let Some(Before { exchange, agreed }) = before {
            (self.exchange, self.agreed) = (Some(exchange), agreed);
        }
    }

    /// What holds now: the pending exchange when it has an answer (early media), else the last
    /// committed one. `None` before the first answer. Nothing flows to or from a new peer that has
    /// said nothing yet.
    #[must_use]
    pub fn media(&self) -> Option<NegotiatedMedia> {
        let pending = self.exchange.as_ref().and_then(|exchange| {
            let answer = exchange.answer.as_ref()?;
            Some(&answer.agreement)
        });
        let agreement = pending.or(self.agreed.as_ref())?;
        let fresh = self.fresh.filter(|_| pending.is_none());
        let codec = agreement
            .formats
            .iter()
            .map(|format| &format.codec)
            .find(|codec| codec.is_voice())?
            .clone();
        let leg = |side| {
            let agreed: &AgreedLeg = of(&agreement.legs, side);
            let known = Some(agreed).filter(|_| fresh != Some(side));
            let ice = known.and_then(|agreed| agreed.ice());
            NegotiatedLeg {
                local: self.leg(side).policy.local,
                remote: known.and_then(|agreed| agreed.remote),
                srtp: known.and_then(|agreed| agreed.srtp()).cloned(),
                ice: ice.map(|ice| Box::new(ice.media.clone())),
                rtcp_mux: agreed.rtcp_mux,
                direction: agreed.direction,
                negotiation: agreed.negotiation,
            }
        };
        let stream = |side| {
            let stream = agreement.stream(side, codec.clock_rate);
            Stream {
                active: stream.active && fresh.is_none(),
                ..stream
            }
        };
        Some(NegotiatedMedia {
            streams: [stream(Side::A), stream(Side::B)],
            legs: [leg(Side::A), leg(Side::B)],
            codec,
        })
    }

    /// Our ICE for the answer to `from`, whose offer is `audio`, and for the offer to the other
    /// side. A leg that has agreed to none keeps to that.
    fn own_ice<R: CryptoRng + ?Sized>(
        &self,
        from: Side,
        audio: &Audio,
        random: &mut R,
    ) -> [Option<OwnIce>; 2] {
        let agreed = |side| self.before(side).and_then(AgreedLeg::ice);
        let offered = audio.ice.as_deref();
        let to = from.other();
        let offers = match self.before(to) {
            Some(leg) => leg.ice().is_some(),
            None => self.leg(to).policy.ice,
        };
        [
            offered
                .filter(|_| self.leg(from).policy.ice)
                .map(|offered| OwnIce::answering(offered, agreed(from), random)),
            offers.then(|| OwnIce::offering(agreed(to), random)),
        ]
    }

    /// What a leg has agreed to before.
    fn before(&self, side: Side) -> Option<&AgreedLeg> {
        let agreed = self.agreed.as_ref().filter(|_| self.fresh != Some(side))?;
        Some(of(&agreed.legs, side))
    }

    pub(super) fn leg(&self, side: Side) -> &LegState {
        of(&self.legs, side)
    }

    pub(super) fn leg_mut(&mut self, side: Side) -> &mut LegState {
        let [a, b] = &mut self.legs;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }
}

impl Exchange {
    /// Our number towards the offerer for a payload type of its own.
    fn said_as(&self, theirs: u8) -> u8 {
        let mut said = self.said.iter().flatten();
        said.find(|(number, _)| *number == theirs)
            .map_or(theirs, |(_, ours)| *ours)
    }

    /// The digest of the `o=` line of an answer, and its audio stream: it stands where the offer's does (RFC 3264, section 6).
    fn answered_audio(&self, body: &[u8]) -> Result<(u64, Audio), SdpError> {
        let place = self.offered.layout.audio();
        let description = Description::parse(body)?;
        let line = description.lines.into_iter().nth(place);
        match line.and_then(|line| line.audio) {
            Some(Ok(audio)) => Ok((description.origin, audio)),
            Some(Err(SdpError::NoAudio)) => Err(SdpError::StreamRefused),
            Some(Err(error)) => Err(error),
            None => Err(SdpError::Malformed(
                "an answer without the offered audio line".to_owned(),
            )),
        }
    }

    /// Our answer to the offerer.
    pub(super) fn answer_for(
        &self,
        policy: &LegPolicy,
        audio: &Audio,
        matched: &[(usize, Format)],
    ) -> LocalDescription {
        let rtcp_mux = self.audio.rtcp_mux && policy.rtcp_mux;
        LocalDescription {
            port: policy.local,
            transport: self.audio.transport,
            formats: matched
                .iter()
                .filter_map(|(place, answered)| {
                    let origin = self.origins.get(*place)?;
                    Some(Format {
                        payload_type: origin.payload_type,
                        codec: origin.codec.clone(),
                        parameters: answered.parameters.clone(),
                    })
                })
                .collect(),
            direction: audio.direction.within(self.offered.direction),
            crypto: self.crypto.iter().map(|(ours, _)| ours.clone()).collect(),
            ice: self.ice[0].as_ref().map(|ice| LocalIce {
                credentials: ice.own.clone(),
                rtcp: !rtcp_mux,
            }),
            rtcp_mux,
            rtcp_shared: rtcp_mux,
            ptime: audio.ptime,
            maxptime: audio.maxptime,
            layout: self.layout.clone(),
        }
    }

    fn agree(
        &self,
        before: [Option<&AgreedLeg>; 2],
        answer: &LocalDescription,
        audio: &Audio,
        matched: &[(usize, Format)],
        answered: Option<Crypto>,
        (offerer_received, answerer_received): (u32, u32),
    ) -> Agreement {
        let remote = |side, audio: &Audio, rtcp_mux| {
            audio
                .remote
                .map(|remote| RemoteMedia {
                    rtp: remote.rtp,
                    rtcp: if rtcp_mux { remote.rtp } else { remote.rtcp },
                })
                .or_else(|| of(&before, side).and_then(|before| before.remote))
        };
        let ice = |own: &Option<OwnIce>, side, local: &LocalDescription, audio: &Audio| {
            let (own, theirs) = (own.as_ref()?, audio.ice.as_deref()?);
            let before = of(&before, side).and_then(AgreedLeg::ice);
            let remote = audio.remote.map(|remote| remote.rtp);
            Some(Box::new(own.agree(theirs, local.port.rtp, remote, before)))
        };
        let [answering, offering] = &self.ice;
        let answerer = self.offerer.other();
        let answerer_mux = self.offered.rtcp_mux && audio.rtcp_mux;
        let formats = matched
            .iter()
            .filter_map(|(place, theirs)| {
                let origin = self.origins.get(*place)?;
                let offered = self.offered.formats.get(*place)?;
                let said = self.said_as(origin.payload_type);
                Some(AgreedFormat::new(
                    origin.codec.clone(),
                    by_side(self.offerer, origin.payload_type, theirs.payload_type),
                    by_side(self.offerer, said, offered.payload_type),
                    by_side(
                        self.offerer,
                        origin.parameters.clone(),
                        theirs.parameters.clone(),
                    ),
                ))
            })
            .collect();
        let offerer_leg = AgreedLeg {
            remote: remote(self.offerer, &self.audio, answer.rtcp_mux),
            secrets: Secrets::new(
                self.crypto.as_ref().map(|(ours, theirs)| SrtpKeys {
                    protect: ours.key.clone(),
                    unprotect: theirs.key.clone(),
                }),
                ice(answering, self.offerer, answer, &self.audio),
            ),
            rtcp_mux: answer.rtcp_mux,
            direction: self.audio.direction.within(answer.direction),
            ptime: self.audio.ptime,
            maxptime: self.audio.maxptime,
            layout: self.layout.clone(),
            negotiation: offerer_received,
            transport: self.audio.transport,
        };
        let answerer_leg = AgreedLeg {
            remote: remote(answerer, audio, answerer_mux),
            secrets: Secrets::new(
                answered.and_then(|theirs| {
                    let ours = self
                        .offered
                        .crypto
                        .iter()
                        .find(|ours| ours.key.suite == theirs.key.suite)?;
                    Some(SrtpKeys {
                        protect: ours.key.clone(),
                        unprotect: theirs.key,
                    })
                }),
                ice(offering, answerer, &self.offered, audio),
            ),
            rtcp_mux: answerer_mux,
            direction: audio.direction.within(self.offered.direction),
            ptime: audio.ptime,
            maxptime: audio.maxptime,
            layout: self.offered.layout.clone(),
            negotiation: answerer_received,
            transport: audio.transport,
        };
        Agreement {
            legs: by_side(self.offerer, offerer_leg, answerer_leg),
            formats,
        }
    }
}
