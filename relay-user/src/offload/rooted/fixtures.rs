//! Packet fixtures: what goes in, the verdict and the reason, what comes out. Each runs through the
//! kernel's program and through the datapath in memory.

mod counted;
mod refused;
mod relayed;
use relay_abi::{
    U16, U32,
    flow::{FlowEntry, FlowKey},
    next_hop::NextHop,
    verdict::Reason,
};

use super::{
    lab::{
        INGRESS, Lab, Ran, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, config, endpoint, entry, key,
        next_hop,
    },
    packets::{Packet, checksums_are_right, rtp},
};
use crate::offload::{Datapath as _, Offload, XdpMode};

const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;

struct Fixture {
    description: String,
    flow: Option<(FlowKey, FlowEntry)>,
    next_hop: NextHop,
    input: Vec<u8>,
    verdict: u32,
    reason: Reason,
    /// What leaves; without it the frame stays as it came.
    output: Option<Packet>,
}

/// The ends of a relayed stream in one family.
#[derive(Clone, Copy)]
struct Ends {
    name: &'static str,
    peer: &'static str,
    local: &'static str,
    from: &'static str,
    to: &'static str,
}

const V4: Ends = Ends {
    name: "IPv4",
    peer: "198.51.100.2:30000",
    local: "198.51.100.1:20000",
    from: "203.0.113.1:20002",
    to: "203.0.113.2:40000",
};

const V6: Ends = Ends {
    name: "IPv6",
    peer: "[2001:db8:1::2]:30000",
    local: "[2001:db8:1::1]:20000",
    from: "[2001:db8:2::1]:20002",
    to: "[2001:db8:2::2]:40000",
};

fn voice() -> Vec<u8> {
    rtp(0x80, 0x80, 0x1234, 0x1000_0000, 0x1111_2222, &[0xd5; 160])
}

/// [`voice`] as it leaves by [`entry`].
fn voice_out() -> Vec<u8> {
    rtp(0x80, 0x80, 0x1134, 0x0fff_ff00, 0x3333_4444, &[0xd5; 160])
}

impl Ends {
    fn packet(&self) -> Packet {
        Packet::new(self.peer, self.local, voice())
    }

    /// What [`Ends::packet`] becomes.
    fn relayed(&self) -> Packet {
        Packet {
            source: [2, 0, 0, 0, 1, 1],
            destination: [2, 0, 0, 0, 1, 2],
            hop_limit: 63,
            identification: 0,
            do_not_fragment: true,
            flow_label: 0,
            ..Packet::new(self.from, self.to, voice_out())
        }
    }

    fn flow(&self) -> (FlowKey, FlowEntry) {
        (key(self.local), entry(self.peer, self.from, self.to))
    }

    fn fixture(&self, description: &str) -> Fixture {
        Fixture {
            description: format!("{}: {description}", self.name),
            flow: Some(self.flow()),
            next_hop: next_hop(&[]),
            input: self.packet().octets(),
            verdict: XDP_REDIRECT,
            reason: Reason::Relayed,
            output: Some(self.relayed()),
        }
    }
}

impl Fixture {
    fn input(self, packet: &Packet) -> Self {
        self.octets(packet.octets())
    }

    fn octets(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    fn entry(mut self, change: impl FnOnce(&mut FlowEntry)) -> Self {
        if let Some((_, entry)) = &mut self.flow {
            change(entry);
        }
        self
    }

    fn next_hop(mut self, next_hop: NextHop) -> Self {
        self.next_hop = next_hop;
        self
    }

    fn leaves(mut self, change: impl FnOnce(&mut Packet)) -> Self {
        if let Some(packet) = &mut self.output {
            change(packet);
        }
        self
    }

    fn sent_back(mut self) -> Self {
        self.verdict = XDP_TX;
        self
    }

    fn ends(mut self, verdict: u32, reason: Reason) -> Self {
        self.verdict = verdict;
        self.reason = reason;
        self.output = None;
        self
    }

    fn punted(self, reason: Reason) -> Self {
        self.ends(XDP_PASS, reason)
    }

    fn dropped(self, reason: Reason) -> Self {
        self.ends(XDP_DROP, reason)
    }

    fn passed(self, reason: Reason) -> Self {
        self.ends(XDP_PASS, reason)
    }

    fn run(&self, lab: &mut Lab) {
        println!("{}", self.description);
        if let Some((key, entry)) = &self.flow {
            lab.install(key, entry).expect("installed");
        }
        lab.set_next_hop(3, &self.next_hop);
        let expected = Ran {
            verdict: self.verdict,
            reason: self.reason,
            output: self
                .output
                .as_ref()
                .map_or_else(|| self.input.clone(), Packet::octets),
        };
        let dropped = lab.counters(5)[0].dropped;
        assert_eq!(lab.run(&self.input, 5), expected, "{}", self.description);
        if self.verdict == XDP_DROP && self.flow.is_some() && self.reason != Reason::NoChecksum {
            assert_eq!(
                lab.counters(5)[0].dropped,
                dropped + 1,
                "{}",
                self.description
            );
        }
        if let Some((key, _)) = &self.flow {
            lab.remove(key);
        }
    }
}

fn run(fixtures: impl IntoIterator<Item = Fixture>) {
    let mut lab = Lab::new();
    for fixture in fixtures {
        fixture.run(&mut lab);
    }
}
