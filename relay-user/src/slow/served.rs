//! One flow as its worker serves it: what is learned of the source, and what is kept when the flow
//! is installed anew.

use std::sync::Arc;

use relay_abi::{
    counters::FlowCounters,
    flow::{Endpoint, FlowEntry, FlowKey, PAYLOAD_TYPES, PayloadTypePair},
    reception::{Reception, ticks},
    rtp::RtpHeader,
};

use super::{
    Discard, LastOutput, RtcpRoute, SlowError, SlowEvent, SlowEvents, SlowFlow, Sources,
    ice::{Component, Ice},
    shared::{Copied, FlowShared, Translation},
    sources::{ChangeLimit, Left},
};
use crate::srtp::{Inbound, Outbound};

/// A flow made ready by the caller of `install`, so that the worker only has to take it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub key: FlowKey,
    pub flow: SlowFlow,
    pub unprotect: Option<Box<Inbound>>,
    pub protect: Option<Box<Outbound>>,
    pub payload_types: Option<Box<PayloadTypes>>,
    pub ice: Option<Box<Ice>>,
    pub shared: Arc<FlowShared>,
    pub opposite: Option<Arc<FlowShared>>,
}

/// How far behind a packet may be that is protected all the same.
const REPLAY_WINDOW: i32 = 128;

/// What each of the 128 payload types becomes.
pub(super) type PayloadTypes = [Option<u8>; 128];

impl Prepared {
    pub(super) fn new(
        key: FlowKey,
        mut flow: SlowFlow,
        shared: Arc<FlowShared>,
        opposite: Option<Arc<FlowShared>>,
    ) -> Result<Self, SlowError> {
        let name = |key: &crate::media::SrtpKey| SlowError::Keys {
            suite: key.suite.name(),
        };
        let row = flow.unprotect_row.take();
        let unprotect = match &flow.unprotect {
            Some(key) => Some(Box::new(Inbound::sharing(key, row).map_err(|_| name(key))?)),
            None => None,
        };
        let row = flow.protect_row.take();
        let protect = match &flow.protect {
            Some(key) => Some(Box::new(
                Outbound::sharing(key, row).map_err(|_| name(key))?,
            )),
            None => None,
        };
        let payload_types = (!flow.payload_types.is_empty()).then(|| {
            let mut table = Box::new([None; 128]);
            // The entry begins with as many as it holds; the others take turns in its last place.
            let held = flow.payload_types.len().min(PAYLOAD_TYPES);
            flow.entry.payload_type_count = held as u8;
            let places = flow.entry.payload_types.iter_mut();
            for (place, (incoming, outgoing)) in places.zip(&flow.payload_types) {
                *place = PayloadTypePair {
                    incoming: *incoming,
                    outgoing: *outgoing,
                };
            }
            for (incoming, outgoing) in &flow.payload_types {
                if let Some(slot) = table.get_mut(usize::from(*incoming)) {
                    *slot = Some(*outgoing);
                }
            }
            table
        });
        let ice = flow.ice.take().map(|ice| Box::new(Ice::new(ice)));
        Ok(Self {
            key,
            flow,
            unprotect,
            protect,
            payload_types,
            ice,
            shared,
            opposite,
        })
    }
}

/// A flow in a worker's table.
#[derive(Debug)]
pub(super) struct Served {
    pub key: FlowKey,
    /// The truth that packets are relayed by.
    pub entry: FlowEntry,
    payload_types: Option<Box<PayloadTypes>>,
    pub sources: Sources,
    pub ice: Option<Box<Ice>>,
    pub unprotect: Option<Box<Inbound>>,
    pub protect: Option<Box<Outbound>>,
    pub rtcp: RtcpRoute,
    pub shared: Arc<FlowShared>,
    pub opposite: Option<Arc<FlowShared>>,
    /// What the opposite flow last published.
    pub heard: Copied,
    /// What this flow last published.
    pub translation: Translation,
    pub reception: Reception,
    pub last_seen: u64,
    changes: ChangeLimit,
    /// Who must not be pinned yet.
    left: Option<Box<Left>>,
    /// The sequence number that would show a source to have begun anew.
    restart: Option<u16>,
    /// Events for which the queue had no room yet.
    source_untold: bool,
    peer_untold: bool,
    rtcp_untold: bool,
}

// A packet touches its flow: a few cache lines, one after the other. A call has two, whichever path
// its packets take.
const _: () = assert!(size_of::<Served>() <= 512);

impl Served {
    pub(super) fn new(prepared: Prepared) -> Self {
        prepared.shared.reset();
        let mut served = Self {
            key: prepared.key,
            entry: prepared.flow.entry,
            payload_types: prepared.payload_types,
            sources: prepared.flow.sources,
            ice: prepared.ice,
            unprotect: prepared.unprotect,
            protect: prepared.protect,
            rtcp: prepared.flow.rtcp,
            shared: prepared.shared,
            opposite: prepared.opposite,
            heard: Copied::default(),
            translation: Translation::default(),
            reception: Reception::default(),
            last_seen: 0,
            changes: ChangeLimit::new(),
            left: None,
            restart: None,
            source_untold: false,
            peer_untold: false,
            rtcp_untold: false,
        };
        served.adopt_source();
        served.choose_pair();
        served.publish();
        served
    }

    /// Makes this flow what `prepared` says, and keeps what was learned and the SRTP contexts whose
    /// key is the same.
    pub(super) fn update(&mut self, prepared: Prepared) {
        let old = self.entry;
        let mut entry = prepared.flow.entry;
        let known = FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
        let newer = entry.generation.get().wrapping_sub(old.generation.get()) as i32 >= 0;
        let told = entry.has(known) && (newer || !old.has(FlowEntry::SSRC_KNOWN));
        let relatch = match (&self.ice, &prepared.ice) {
            (None, None) => self.sources.are_forgotten_for(&prepared.flow.sources),
            (Some(old), Some(new)) => !new.continues(old),
            _ => true,
        };
        let same_key = match (&self.protect, &prepared.protect) {
            (Some(old), Some(new)) => old.is_like(new),
            (_, new) => new.is_none(),
        };
        if !told {
            let flags = entry.flags.get();
            if !entry.has(FlowEntry::PINNED) && old.has(FlowEntry::PINNED) && !relatch {
                entry.peer = old.peer;
                entry.flags = (flags | FlowEntry::PINNED).into();
            }
            if old.has(FlowEntry::SSRC_KNOWN) {
                entry.ssrc_in = old.ssrc_in;
                if same_key {
                    entry.ssrc_out = old.ssrc_out;
                }
                entry.timestamp_offset = old.timestamp_offset;
                entry.sequence_offset = old.sequence_offset;
                entry.generation = old.generation;
                entry.flags = (entry.flags.get() | FlowEntry::SSRC_KNOWN).into();
            }
        }
        if relatch && old.has(FlowEntry::PINNED) && prepared.ice.is_none() {
            let left = self.sources.left_for(&prepared.flow.sources, old.peer);
            self.left = left.map(Box::new);
        }
        let resumed = old.has(FlowEntry::HELD) && !entry.has(FlowEntry::HELD);
        let secured = prepared.protect.is_some() || prepared.unprotect.is_some();
        let kept = match (&self.unprotect, &prepared.unprotect) {
            (Some(old), Some(new)) => old.is_like(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let reclocked = old.clock_rate != entry.clock_rate;
        if resumed && secured || !kept || reclocked {
            // What the other leg did not hear during the hold must not look to it, nor to our own
            // replay window, like half the sequence numbers lost; a new key's states are nobody's
            // yet, and of one that is gone the media plane has forgotten the source and waits to be
            // told; between times of two clocks there is no jitter. So the source is taken up anew.
            entry.flags = (entry.flags.get() & !FlowEntry::SSRC_KNOWN).into();
        }
        self.entry = entry;
        self.payload_types = prepared.payload_types;
        self.sources = prepared.flow.sources;
        self.ice = match (self.ice.take(), prepared.ice) {
            (Some(old), Some(mut new)) => {
                new.inherit(*old);
                Some(new)
            }
            (_, new) => new,
        };
        self.rtcp = prepared.flow.rtcp;
        self.shared = prepared.shared;
        self.opposite = prepared.opposite;
        self.heard = Copied::default();
        self.unprotect = match (self.unprotect.take(), prepared.unprotect) {
            (Some(old), Some(new)) if old.is_like(&new) => Some(old),
            (_, new) => new,
        };
        self.protect = match (self.protect.take(), prepared.protect) {
            (Some(old), Some(new)) if old.is_like(&new) => Some(old),
            (_, new) => new,
        };
        if relatch {
            self.forget_rtcp();
        }
        if told {
            self.adopt_source();
        }
        self.choose_pair();
        self.publish();
    }

    /// Takes the pair that ICE has nominated for the peer's, if it is another one than before.
    /// Media that has begun goes on from there.
    pub(super) fn choose_pair(&mut self) {
        let Some(ice) = &self.ice else {
            return;
        };
        if let Some(peer) = ice.nominated(Component::Rtp)
            && !(self.entry.has(FlowEntry::PINNED) && self.entry.peer == peer)
        {
            self.entry.peer = peer;
            self.entry.flags = (self.entry.flags.get() | FlowEntry::PINNED).into();
            match self.entry.has(FlowEntry::SSRC_KNOWN) {
                true => self.source_untold = true,
                false => self.peer_untold = true,
            }
        }
        self.publish();
    }

    /// Puts the packet's payload type into the entry when the entry is too small for all.
    pub(super) fn find_payload_type(&mut self, incoming: u8) {
        let Some(table) = &self.payload_types else {
            return;
        };
        if self.entry.outgoing_payload_type(incoming).is_some() {
            return;
        }
        let Some(Some(outgoing)) = table.get(usize::from(incoming)).copied() else {
            return;
        };
        if let Some(place) = self.entry.payload_types.last_mut() {
            *place = PayloadTypePair { incoming, outgoing };
        }
    }

    /// Whether RTP from `source` may pin it at `now`, in nanoseconds.
    pub(super) fn may_pin(&mut self, source: &Endpoint, now: u64) -> bool {
        self.admits(source)
            && self
                .left
                .as_mut()
                .is_none_or(|left| left.admits(source, now))
    }

    /// Whether RTP, and RTCP beside it, may pin `source`.
    pub(super) fn admits(&self, source: &Endpoint) -> bool {
        match &self.ice {
            Some(ice) => ice.has_checked(source, Component::Rtp),
            None => self.sources.admits_rtp(source),
        }
    }

    /// Whether the source of `header` may take over at `now`. That it does
    /// [`Served::note_change`] is told, once nothing else is against it.
    pub(super) fn may_change(&self, header: &RtpHeader, now: u64) -> bool {
        !self.changes_source(header) || self.changes.allows(now)
    }

    /// Counts that the source of `header` takes over.
    pub(super) fn note_change(&mut self, header: &RtpHeader, now: u64) {
        if self.changes_source(header) {
            self.changes.take(now);
        }
    }

    fn changes_source(&self, header: &RtpHeader) -> bool {
        self.entry.has(FlowEntry::SSRC_KNOWN) && header.ssrc != self.entry.ssrc_in
    }

    /// Whether the source has begun its sequence numbers anew under the same SSRC, which two packets
    /// in a row have to say (RFC 3550, section A.1). Towards a leg with SRTP such a source must be
    /// taken up anew: our replay window would hold its packets for old ones, for minutes.
    ///
    /// # Errors
    /// [`Discard::Repeated`] for the first of the two, and for one that is only late.
    pub(super) fn restarts(&mut self, header: &RtpHeader) -> Result<bool, Discard> {
        let sequence = header.sequence.get();
        let behind = match self.protect.as_deref().map(Outbound::shared_highest) {
            None => None,
            // What was sent by whichever path.
            Some(Some(highest)) => {
                let out = sequence.wrapping_add(self.entry.sequence_offset.get());
                (highest > 0).then_some((highest as u16).wrapping_sub(out))
            }
            Some(None) => {
                let reception = &self.reception;
                let current =
                    reception.received > 0 && reception.generation == self.entry.generation.get();
                current.then_some((reception.highest_sequence as u16).wrapping_sub(sequence))
            }
        };
        if behind.is_none_or(|behind| i32::from(behind as i16) <= REPLAY_WINDOW) {
            self.restart = None;
            return Ok(false);
        }
        if self.restart.replace(sequence.wrapping_add(1)) == Some(sequence) {
            self.restart = None;
            self.entry.flags = (self.entry.flags.get() & !FlowEntry::SSRC_KNOWN).into();
            return Ok(true);
        }
        Err(Discard::Repeated)
    }

    /// Takes `source`, which sent `header`, for the flow's own: pins it, and if its SSRC is another
    /// one lets it go on where the one before ended.
    pub(super) fn learn(
        &mut self,
        source: &Endpoint,
        header: &RtpHeader,
        now: u64,
        kernel: Option<&dyn LastOutput>,
    ) {
        let same = self.entry.has(FlowEntry::SSRC_KNOWN) && header.ssrc == self.entry.ssrc_in;
        if !self.entry.has(FlowEntry::PINNED) {
            self.entry.peer = *source;
            if self.translation.knows(Translation::RTCP)
                && self.translation.rtcp.address != source.address
            {
                self.forget_rtcp();
            }
        }
        if !same {
            self.take_over(header, now, kernel);
        }
        self.entry.generation = self.entry.generation.get().wrapping_add(1).into();
        let known = FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
        self.entry.flags = (self.entry.flags.get() | known).into();
        self.left = None;
        self.publish();
        if let Some(context) = &self.unprotect {
            context.announce(self.entry.generation.get());
        }
        self.source_untold = true;
    }

    /// Sets SSRC and offsets so that the output goes on without a step.
    fn take_over(&mut self, header: &RtpHeader, now: u64, kernel: Option<&dyn LastOutput>) {
        let sequence = header.sequence.get();
        let first = u32::from(sequence);
        if let Some(last) = self.last_output(kernel) {
            let next = (last.reception.last_sequence as u16).wrapping_add(1);
            self.entry.sequence_offset = next.wrapping_sub(sequence).into();
            let elapsed = ticks(
                now.saturating_sub(last.last_seen),
                self.entry.clock_rate.get(),
            );
            self.entry.timestamp_offset = last
                .reception
                .last_timestamp
                .wrapping_add(elapsed.max(1))
                .wrapping_sub(header.timestamp.get())
                .into();
            // Cycles go on as the other leg has counted them.
            let behind = last
                .reception
                .highest_sequence
                .wrapping_add(self.translation.sequence_shift.get());
            let extended = behind.wrapping_add(1) & 0xffff_0000 | u32::from(next);
            self.translation.sequence_shift = extended.wrapping_sub(first).into();
        } else {
            let out = sequence.wrapping_add(self.entry.sequence_offset.get());
            self.translation.sequence_shift = u32::from(out).wrapping_sub(first).into();
        }
        self.entry.ssrc_in = header.ssrc;
    }

    /// What was last sent on this flow, by this worker or by the kernel.
    fn last_output(&self, kernel: Option<&dyn LastOutput>) -> Option<FlowCounters> {
        let own = (self.reception.received > 0).then_some(FlowCounters {
            last_seen: self.last_seen,
            reception: self.reception,
            ..FlowCounters::default()
        });
        let kernel = kernel
            .and_then(|kernel| kernel.last_output(self.entry.counters.get()))
            .filter(|counters| counters.reception.received > 0);
        match (own, kernel) {
            (Some(own), Some(kernel)) if kernel.last_seen > own.last_seen => Some(kernel),
            (Some(own), _) => Some(own),
            (None, kernel) => kernel,
        }
    }

    /// Takes `source` for where the leg's RTCP comes from.
    pub(super) fn learn_rtcp(&mut self, source: &Endpoint) {
        if self.translation.knows(Translation::RTCP) && self.translation.rtcp == *source {
            return;
        }
        self.translation.rtcp = *source;
        self.translation.known = (self.translation.known.get() | Translation::RTCP).into();
        self.publish();
        self.rtcp_untold = true;
    }

    fn forget_rtcp(&mut self) {
        self.translation.known = (self.translation.known.get() & !Translation::RTCP).into();
    }

    /// Derives the shift of extended sequence numbers for a source that somebody else has learned.
    fn adopt_source(&mut self) {
        let shift = self.translation.sequence_shift.get();
        if shift as u16 != self.entry.sequence_offset.get() {
            let offset = self.entry.sequence_offset.get();
            self.translation.sequence_shift = u32::from(offset).into();
        }
    }

    /// Lets the opposite flow's worker and the readers know.
    fn publish(&mut self) {
        let second = self.unprotect.as_deref().is_some_and(Inbound::is_on_second);
        let flags = self.entry.flags.get() & !FlowEntry::UNPROTECT_SECOND;
        self.entry.flags = match second {
            true => flags | FlowEntry::UNPROTECT_SECOND,
            false => flags,
        }
        .into();
        let entry = &self.entry;
        let mut known = self.translation.known.get() & Translation::RTCP;
        if entry.has(FlowEntry::PINNED) {
            known |= Translation::PEER;
        }
        if entry.has(FlowEntry::SSRC_KNOWN) {
            known |= Translation::SSRC;
        }
        self.translation = Translation {
            peer: entry.peer,
            ssrc_in: entry.ssrc_in,
            ssrc_out: entry.ssrc_out,
            timestamp_offset: entry.timestamp_offset,
            known: known.into(),
            ..self.translation
        };
        if let Some(ice) = &self.ice {
            if !entry.has(FlowEntry::PINNED)
                && let Some(pair) = ice.best(Component::Rtp)
            {
                self.translation.peer = pair;
                self.translation.known = (known | Translation::PAIR).into();
            }
            if let Some(pair) = ice.best(Component::Rtcp) {
                self.translation.rtcp = pair;
                self.translation.known = (self.translation.known.get() | Translation::RTCP).into();
            }
        }
        self.shared.publish(&self.translation);
    }

    /// Tells what has not been told; what finds no room is told with a later packet.
    pub(super) fn tell(&mut self, events: &SlowEvents) {
        if self.source_untold {
            self.source_untold = !events.tell(SlowEvent::Source {
                key: self.key,
                entry: self.entry,
            });
        }
        if self.peer_untold {
            self.peer_untold = !events.tell(SlowEvent::Peer {
                key: self.key,
                entry: self.entry,
            });
        }
        if self.rtcp_untold {
            self.rtcp_untold = !events.tell(SlowEvent::Rtcp {
                key: self.key,
                peer: self.translation.rtcp,
            });
        }
    }

    /// The opposite flow's translation, as far as it is known.
    pub(super) fn opposite(&mut self) -> Option<&Translation> {
        self.opposite.as_ref()?.refresh(&mut self.heard);
        Some(&self.heard.translation)
    }
}
