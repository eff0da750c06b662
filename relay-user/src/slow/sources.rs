//! Whose packets may pin a flow's peer.

use std::net::IpAddr;

use relay_abi::flow::{Endpoint, FlowEntry};

use super::{Sources, endpoint, socket_address};
use crate::media::Latching;

impl Sources {
    /// Whether `source` may become the flow's RTP peer.
    pub(super) fn admits_rtp(&self, source: &Endpoint) -> bool {
        match self.latching {
            Latching::Strict => self.rtp.is_some_and(|named| endpoint(named) == *source),
            Latching::Latch | Latching::RelatchOnReinvite => self.allows(source),
        }
    }

    /// Whether RTCP may come from `source`, seeing that `entry`'s peer may be pinned: a leg's RTCP
    /// comes from where its RTP does, or from where its SDP says.
    pub(super) fn admits_rtcp(&self, source: &Endpoint, entry: &FlowEntry) -> bool {
        if self.rtcp.is_some_and(|named| endpoint(named) == *source) {
            return true;
        }
        match self.latching {
            Latching::Strict => false,
            Latching::Latch | Latching::RelatchOnReinvite => {
                if entry.has(FlowEntry::PINNED) {
                    entry.peer.address == source.address
                } else {
                    self.allows(source)
                }
            }
        }
    }

    /// Whether a flow whose sources become `new` forgets the peer that it has learned.
    pub(super) fn are_forgotten_for(&self, new: &Self) -> bool {
        if new.latching == Latching::Strict {
            return self.latching != Latching::Strict || self.rtp != new.rtp;
        }
        let negotiated = self.negotiation != new.negotiation;
        new.latching
            .learns_anew(self.latching, self.names_another(new), negotiated)
    }

    /// Whether `new` comes of a description that has moved to another address.
    fn names_another(&self, new: &Self) -> bool {
        self.rtp.is_some() && new.rtp.is_some() && new.rtp != self.rtp
    }

    /// Whom `peer`, forgotten for `new`, may not come back as for a while: itself, where its
    /// description has moved from one address to another.
    pub(super) fn left_for(&self, new: &Self, peer: Endpoint) -> Option<Left> {
        let returns = new.rtp.is_some_and(|named| endpoint(named) == peer);
        (self.names_another(new) && !returns && new.latching != Latching::Strict)
            .then_some(Left { peer, until: None })
    }

    /// Whether the trunk lets anything in from `source`.
    pub(super) fn allows(&self, source: &Endpoint) -> bool {
        let ip = socket_address(source).ip();
        let named = |address: Option<std::net::SocketAddr>| {
            address.is_some_and(|address| canonical(address.ip()) == ip)
        };
        self.allowed.is_empty()
            || self.allowed.iter().any(|range| range.contains(&ip))
            || named(self.rtp)
            || named(self.rtcp)
    }
}

fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A peer that was pinned until its description named another address. What it sends still, on its way
/// when the description came or sent until the answer to it did, must not pin it again; but a peer
/// may receive at one address and go on sending from another, so this ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    peer: Endpoint,
    /// From its first packet on, in nanoseconds.
    until: Option<u64>,
}

/// In nanoseconds.
const LEAVING: u64 = 1_000_000_000;

impl Left {
    /// Whether `source` may be pinned at `now`, in nanoseconds.
    pub(super) fn admits(&mut self, source: &Endpoint, now: u64) -> bool {
        self.peer != *source || now >= *self.until.get_or_insert(now + LEAVING)
    }
}

/// How often a pinned peer may change its SSRC: a burst, and then one each second.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeLimit {
    left: u8,
    refilled: u64,
}

const BURST: u8 = 4;
/// In nanoseconds.
const REFILL: u64 = 1_000_000_000;

impl ChangeLimit {
    pub(super) fn new() -> Self {
        Self {
            left: BURST,
            refilled: 0,
        }
    }

    /// Whether there is a change left at `now`, in nanoseconds.
    pub(super) fn allows(&self, now: u64) -> bool {
        self.left > 0 || self.refills(now) > 0
    }

    /// Takes one change at `now`; false if there is none left.
    pub(super) fn take(&mut self, now: u64) -> bool {
        let refills = self.refills(now);
        if refills > 0 {
            self.left = self
                .left
                .saturating_add(u8::try_from(refills).unwrap_or(BURST))
                .min(BURST);
            self.refilled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn refills(&self, now: u64) -> u64 {
        now.saturating_sub(self.refilled) / REFILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Endpoint {
        endpoint(address.parse().expect("an address"))
    }

    fn sources(latching: Latching, allowed: &[&str]) -> Sources {
        Sources {
            latching,
            negotiation: 0,
            allowed: allowed
                .iter()
                .map(|range| range.parse().expect("a range"))
                .collect(),
            rtp: Some("192.0.2.1:4000".parse().expect("an address")),
            rtcp: Some("192.0.2.1:4001".parse().expect("an address")),
        }
    }

    #[test]
    fn strict_admits_what_sdp_names_and_nobody_else() {
        let strict = sources(Latching::Strict, &["0.0.0.0/0"]);
        let entry = FlowEntry::default();
        assert!(strict.admits_rtp(&from("192.0.2.1:4000")));
        assert!(!strict.admits_rtp(&from("192.0.2.1:4001")));
        assert!(!strict.admits_rtp(&from("192.0.2.2:4000")));
        assert!(strict.admits_rtcp(&from("192.0.2.1:4001"), &entry));
        assert!(!strict.admits_rtcp(&from("192.0.2.1:4000"), &entry));
    }

    #[test]
    fn latching_admits_the_trunks_ranges_and_the_signalled_address() {
        for latching in [Latching::Latch, Latching::RelatchOnReinvite] {
            let ranged = sources(latching, &["198.51.100.0/24", "2001:db8::/32"]);
            for (address, admitted) in [
                ("198.51.100.7:1", true),
                ("[2001:db8::7]:1", true),
                ("192.0.2.1:9", true),
                ("192.0.2.2:4000", false),
                ("[2001:db9::7]:1", false),
            ] {
                assert_eq!(ranged.admits_rtp(&from(address)), admitted, "{address}");
            }
            assert!(sources(latching, &[]).admits_rtp(&from("203.0.113.9:1")));
        }
    }

    #[test]
    fn rtcp_comes_from_the_pinned_address_or_the_signalled_one() {
        let latch = sources(Latching::Latch, &[]);
        let mut entry = FlowEntry {
            peer: from("203.0.113.9:5000"),
            ..FlowEntry::default()
        };
        assert!(latch.admits_rtcp(&from("203.0.113.77:1"), &entry));
        entry.flags = FlowEntry::PINNED.into();
        assert!(!latch.admits_rtcp(&from("203.0.113.77:1"), &entry));
        assert!(latch.admits_rtcp(&from("203.0.113.9:9"), &entry));
        assert!(latch.admits_rtcp(&from("192.0.2.1:4001"), &entry));
    }

    #[test]
    fn changes_are_limited_and_come_back() {
        let mut limit = ChangeLimit::new();
        let start = 5 * REFILL;
        assert!((0..4).all(|_| limit.allows(start) && limit.take(start)));
        assert!(!limit.allows(start) && !limit.take(start));
        assert!(!limit.take(start + REFILL - 1));
        assert!(limit.take(start + REFILL));
        assert!(!limit.take(start + REFILL));
        assert!((0..4).all(|_| limit.take(start + 1000 * REFILL)));
        assert!(!limit.take(start + 1000 * REFILL));
    }
}
