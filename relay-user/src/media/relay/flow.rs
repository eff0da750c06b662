//! One direction of a call, and what the kernel and the worker are told of it.

use std::net::{IpAddr, SocketAddr};

use relay_abi::{
    U16, U32,
    flow::{Endpoint, FlowEntry, FlowKey, PAYLOAD_TYPES, PayloadTypePair},
};

use super::{alarm::Watch, rows::FlowRows, strays::Strays};
use crate::{
    media::{CallMedia, Latching, LegMedia, Path},
    slow::{RtcpRoute, SlowFlow, Sources, endpoint, flow_key},
};

/// A local address and a destination: what a next hop is held for.
pub(super) type Way = (IpAddr, IpAddr);

/// One direction of a call: from the leg at whose port it comes in to the other one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    /// What the kernel is told, but for [`FlowEntry::USERSPACE`], which `path` decides. With
    /// [`FlowEntry::PINNED`] the source is known.
    pub(super) entry: FlowEntry,
    /// The index of the kernel's counters, and whether there is an entry in its table.
    pub(super) counters: Option<u32>,
    pub(super) path: Path,
    /// The address for RTP that the source's SDP named last; one that names none, as a hold may, does
    /// not make it another.
    named: Option<SocketAddr>,
    /// What the next hop is held for.
    pub(super) way: Option<Way>,
    /// Goes to the worker and comes back with what it learned, so that news from before a source
    /// was forgotten is not taken for new.
    pub(super) token: u32,
    pub(super) loss: Loss,
    /// SRTP packets that the kernel refused while the source had other keys than now.
    pub(super) refused_before: u64,
    pub(super) watch: Watch,
    pub(super) strays: Strays,
}

/// What was lost, over all sources that a stream has had.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loss {
    /// Of the sources before.
    before: u64,
    /// Of this one, when last looked at.
    current: u64,
    generation: u32,
}

impl Loss {
    /// Takes in what is lost of a source, and gives the sum.
    pub(super) fn update(&mut self, generation: u32, lost: i64) -> u64 {
        if self.generation != generation {
            self.before += self.current;
            self.current = 0;
            self.generation = generation;
        }
        self.current = u64::try_from(lost).unwrap_or(0);
        self.before + self.current
    }

    /// Takes in the last look at a source that another one follows, unless the other one has been
    /// looked at already.
    pub(super) fn close(&mut self, generation: u32, lost: i64, next: u32) {
        if self.generation != next {
            self.update(generation, lost);
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.before + self.current
    }
}

const _: () = assert!(size_of::<Flow>() <= 320);

impl Flow {
    /// A direction whose source nobody knows yet.
    pub(super) fn new(key: FlowKey, path: Path, token: u32) -> Self {
        let entry = FlowEntry {
            ssrc_out: U32::new(rand::random()),
            ..FlowEntry::default()
        };
        Self {
            key,
            entry,
            counters: None,
            path,
            named: None,
            way: None,
            token,
            loss: Loss::default(),
            refused_before: 0,
            watch: Watch::default(),
            strays: Strays::default(),
        }
    }

    pub(super) fn is_learned(&self) -> bool {
        self.entry.has(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN)
    }

    /// Forgets the source; the numbers that the other leg hears go on.
    pub(super) fn forget(&mut self, token: u32) {
        let known = FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
        self.entry.flags = U16::new(self.entry.flags.get() & !known);
        self.token = token;
    }

    /// Forgets the source's SSRC, but not the source.
    pub(super) fn forget_ssrc(&mut self, token: u32) {
        self.entry.flags = U16::new(self.entry.flags.get() & !FlowEntry::SSRC_KNOWN);
        self.token = token;
    }

    /// Lets the other leg hear another SSRC, since what leaves begins at ROC 0 under a key that may
    /// be an earlier one: an SSRC of before would have the same keystream twice.
    pub(super) fn renew_ssrc(&mut self) {
        self.entry.ssrc_out = U32::new(rand::random());
    }

    /// Whether what a leg says now, and said `earlier`, makes its learned peer be forgotten.
    pub(super) fn is_forgotten_by(&self, earlier: &LegMedia, now: &LegMedia) -> bool {
        match (&earlier.ice, &now.ice) {
            (None, None) => {}
            (Some(earlier), Some(now)) => return !now.continues(earlier),
            _ => return true,
        }
        let moved = match (self.named, now.remote) {
            (Some(named), Some(remote)) => named != remote.rtp,
            _ => false,
        };
        let negotiated = earlier.negotiation != now.negotiation;
        let latching = now.sources.latching;
        latching.learns_anew(earlier.sources.latching, moved, negotiated)
    }

    /// Takes over what the description says.
    pub(super) fn describe(&mut self, media: &CallMedia, direction: usize) {
        let (Some(stream), Some(from), Some(to)) = (
            media.streams.get(direction),
            media.legs.get(direction),
            media.legs.get(1 - direction),
        ) else {
            return;
        };
        self.pin_strictly(from);
        self.named = from.remote.map(|remote| remote.rtp).or(self.named);
        let entry = &mut self.entry;
        entry.from = endpoint(to.port.rtp);
        let mut flags = entry.flags.get() & !(FlowEntry::HELD | FlowEntry::SET_DSCP);
        if !stream.active {
            flags |= FlowEntry::HELD;
        }
        if to.dscp.is_some() {
            flags |= FlowEntry::SET_DSCP;
        }
        entry.flags = U16::new(flags);
        entry.dscp = to.dscp.unwrap_or(0) & 0x3f;
        entry.clock_rate = U32::new(stream.clock_rate);
        entry.payload_types = [PayloadTypePair::default(); PAYLOAD_TYPES];
        entry.payload_type_count = 0;
        for (slot, (incoming, outgoing)) in
            entry.payload_types.iter_mut().zip(&stream.payload_types)
        {
            *slot = PayloadTypePair {
                incoming: *incoming,
                outgoing: *outgoing,
            };
            entry.payload_type_count += 1;
        }
    }

    /// Where only SDP says who the peer is, it is pinned from the beginning, and again when SDP
    /// names another one.
    pub(super) fn pin_strictly(&mut self, from: &LegMedia) {
        if from.latching() != Latching::Strict {
            return;
        }
        let flags = self.entry.flags.get();
        match from.remote {
            Some(remote) => {
                self.entry.peer = endpoint(remote.rtp);
                self.entry.flags = U16::new(flags | FlowEntry::PINNED);
            }
            None => self.entry.flags = U16::new(flags & !FlowEntry::PINNED),
        }
    }

    /// What the kernel's table holds.
    pub(super) fn kernel_entry(&self) -> FlowEntry {
        let mut entry = self.entry;
        // An index that no table has: nothing was ever counted there.
        entry.counters = U32::new(self.counters.unwrap_or(u32::MAX));
        // Without a destination there is nothing that the program could do; and it unprotects
        // nothing of a held source, nor of one that sends what was not negotiated, whose rollover
        // counter would be lost.
        let uncounted = entry.has(FlowEntry::UNPROTECT)
            && (entry.has(FlowEntry::HELD) || self.strays.are_there());
        if self.path != Path::Xdp || self.destination().is_none() || uncounted {
            entry.flags = U16::new(entry.flags.get() | FlowEntry::USERSPACE);
        }
        entry
    }

    /// What the worker is told. Not who the source is, which the worker knows first, but where SDP
    /// says so.
    pub(super) fn slow(&self, media: &CallMedia, direction: usize, rows: &FlowRows) -> SlowFlow {
        let [from, to] = match direction {
            0 => [&media.legs[0], &media.legs[1]],
            _ => [&media.legs[1], &media.legs[0]],
        };
        let mut entry = self.kernel_entry();
        let unknown = match from.latching() {
            Latching::Strict => FlowEntry::SSRC_KNOWN,
            Latching::Latch | Latching::RelatchOnReinvite => {
                FlowEntry::PINNED | FlowEntry::SSRC_KNOWN
            }
        };
        entry.flags = U16::new(entry.flags.get() & !unknown);
        entry.next_hop = U32::new(self.token);
        // Until the other leg's peer is learned, which the worker sees for itself, its SDP decides.
        entry.to = to
            .signalled()
            .map_or(Endpoint::default(), |remote| endpoint(remote.rtp));
        let payload_types = media
            .streams
            .get(direction)
            .map(|stream| &stream.payload_types);
        SlowFlow {
            entry,
            payload_types: payload_types
                .filter(|types| types.len() > PAYLOAD_TYPES)
                .cloned()
                .unwrap_or_default(),
            sources: sources(from, self.named),
            unprotect: from.srtp.as_ref().map(|keys| keys.unprotect.clone()),
            protect: to.srtp.as_ref().map(|keys| keys.protect.clone()),
            unprotect_row: rows.unprotect.clone(),
            protect_row: rows.protect.clone(),
            rtcp: rtcp_route(to),
            opposite: Some(flow_key(to.port.rtp)),
            ice: from.ice.as_deref().cloned(),
        }
    }

    /// The destination, if there is one yet.
    pub(super) fn destination(&self) -> Option<Endpoint> {
        Some(self.entry.to).filter(|to| *to != Endpoint::default())
    }
}

fn sources(leg: &LegMedia, named: Option<SocketAddr>) -> Sources {
    let latching = leg.latching();
    let named = named.filter(|_| latching != Latching::Strict);
    Sources {
        latching,
        negotiation: leg.negotiation,
        allowed: leg.sources.allowed.clone(),
        rtp: leg.remote.map(|remote| remote.rtp).or(named),
        rtcp: leg
            .remote
            .map(|remote| rtcp_address(leg, remote.rtp, remote.rtcp)),
    }
}

fn rtcp_route(to: &LegMedia) -> RtcpRoute {
    let from = match to.rtcp_mux {
        true => to.port.rtp,
        false => to.port.rtcp(),
    };
    RtcpRoute {
        from: endpoint(from),
        to: to.signalled().map_or(Endpoint::default(), |remote| {
            endpoint(rtcp_address(to, remote.rtp, remote.rtcp))
        }),
        multiplexed: to.rtcp_mux,
    }
}

fn rtcp_address(leg: &LegMedia, rtp: SocketAddr, rtcp: SocketAddr) -> SocketAddr {
    if leg.rtcp_mux { rtp } else { rtcp }
}
