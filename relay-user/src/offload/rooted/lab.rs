//! The kernel's datapath and the one in memory, side by side: the same flows, the same frames.

use std::sync::Arc;

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use relay_abi::{
    U16, U32,
    counters::FlowCounters,
    flow::{Address, Endpoint, FlowEntry, FlowKey, PayloadTypePair},
    frame::BufferFrame,
    next_hop::{NextHop, VlanTag},
    relay::Outcome,
    srtp::{key::PreparedKey, stream::RowReference},
    verdict::{Reason, Verdict},
};

use zerocopy::IntoBytes as _;

use crate::offload::{
    Datapath, DatapathError, MemoryDatapath, Offload, OffloadConfig, StreamStates, XdpDatapath,
    XdpMode,
};

/// Verdicts as the kernel numbers them.
pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const XDP_REDIRECT: u32 = 4;

/// The interface that a test run comes in by: the loopback device.
pub const INGRESS: u32 = 1;

pub fn config(interfaces: &[&str], mode: XdpMode) -> OffloadConfig {
    OffloadConfig {
        mode,
        forced: false,
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        flows: 64,
        next_hops: 16,
        srtp_streams: 16,
        media_ports: 20_000..=29_999,
        workers: 2,
    }
}

pub fn endpoint(text: &str) -> Endpoint {
    let address: std::net::SocketAddr = text.parse().expect("an address and a port");
    Endpoint {
        address: match address.ip() {
            std::net::IpAddr::V4(v4) => Address::v4(v4.octets()),
            std::net::IpAddr::V6(v6) => Address(v6.octets()),
        },
        port: U16::new(address.port()),
    }
}

pub fn key(local: &str) -> FlowKey {
    FlowKey {
        local: endpoint(local),
        zero: U16::ZERO,
    }
}

/// A flow that relays payload types 0 and 101 → 96, everything translated.
pub fn entry(peer: &str, from: &str, to: &str) -> FlowEntry {
    let mut entry = FlowEntry {
        peer: endpoint(peer),
        from: endpoint(from),
        to: endpoint(to),
        flags: U16::new(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN),
        ssrc_in: U32::new(0x1111_2222),
        ssrc_out: U32::new(0x3333_4444),
        timestamp_offset: U32::new(0xffff_ff00),
        sequence_offset: U16::new(0xff00),
        next_hop: U32::new(3),
        counters: U32::new(5),
        generation: U32::new(1),
        clock_rate: U32::new(8000),
        payload_type_count: 2,
        ..FlowEntry::default()
    };
    entry.payload_types[0] = PayloadTypePair {
        incoming: 0,
        outgoing: 0,
    };
    entry.payload_types[1] = PayloadTypePair {
        incoming: 101,
        outgoing: 96,
    };
    entry
}

/// A next hop out of another interface than the ingress one.
pub fn next_hop(tags: &[(u16, u16)]) -> NextHop {
    let mut next_hop = NextHop {
        interface: U32::new(INGRESS + 1),
        device: U32::ZERO,
        mtu: U16::new(1500),
        source: [2, 0, 0, 0, 1, 1],
        destination: [2, 0, 0, 0, 1, 2],
        tags: Default::default(),
        tag_count: tags.len() as u8,
        resolved: 1,
    };
    for (tag, (protocol, control)) in next_hop.tags.iter_mut().zip(tags) {
        *tag = VlanTag {
            protocol: U16::new(*protocol),
            control: U16::new(*control),
        };
    }
    next_hop
}

/// What a datapath did to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub verdict: u32,
    pub reason: Reason,
    pub output: Vec<u8>,
}

pub struct Lab {
    offload: Offload,
    pub kernel: XdpDatapath,
    pub memory: MemoryDatapath,
    /// Goes the long way with every packet.
    long: MemoryDatapath,
}

impl Lab {
    pub fn new() -> Self {
        let config = config(&[], XdpMode::Native);
        Self::of(Offload::load(&config), &config)
    }

    pub fn of(mut offload: Offload, config: &OffloadConfig) -> Self {
        let mut kernel = offload
            .take_datapath()
            .unwrap_or_else(|| panic!("not loaded: {:?}", offload.steps()));
        let mut memory = MemoryDatapath::new(config);
        let mut long = MemoryDatapath::new(config);
        kernel.set_device(0, INGRESS).expect("a device");
        memory.set_device(0, INGRESS).expect("a device");
        long.set_device(0, INGRESS).expect("a device");
        Self {
            offload,
            kernel,
            memory,
            long,
        }
    }

    pub fn steps(&self) -> &[String] {
        self.offload.steps()
    }

    pub fn program(&self) -> &Xdp {
        self.offload.relay_program().expect("loaded")
    }

    /// The kernel's part alone.
    pub fn into_kernel(self) -> (Offload, XdpDatapath) {
        (self.offload, self.kernel)
    }

    pub fn clear_counters(&mut self, index: u32) {
        self.kernel.clear_counters(index).expect("cleared");
        self.memory.clear_counters(index).expect("cleared");
        self.long.clear_counters(index).expect("cleared");
    }

    /// The SRTP states of every datapath.
    pub fn streams(&self) -> [Arc<StreamStates>; 3] {
        [
            self.kernel.streams(),
            self.memory.streams(),
            self.long.streams(),
        ]
    }

    pub fn write_key(&mut self, row: RowReference, key: &PreparedKey) {
        self.kernel.write_key(row, key).expect("written");
        self.memory.write_key(row, key).expect("written");
        self.long.write_key(row, key).expect("written");
    }

    pub fn wipe_key(&mut self, row: RowReference) {
        self.kernel.wipe_key(row).expect("wiped");
        self.memory.wipe_key(row).expect("wiped");
        self.long.wipe_key(row).expect("wiped");
    }

    /// Lets the datapaths in memory refuse SRTP as the kernel's does.
    pub fn refuse_srtp(&mut self, why: &str) {
        self.memory.refuse_srtp(why);
        self.long.refuse_srtp(why);
    }

    /// What the kernel's table of keys holds in a row.
    pub fn key_octets(&self, row: u32) -> Vec<u8> {
        self.kernel.key_words(row).as_bytes().to_vec()
    }

    /// The highest index of a row's first state, in the kernel and in memory.
    pub fn highest(&self, row: u32) -> [u64; 2] {
        [self.kernel.streams(), self.memory.streams()]
            .map(|streams| streams.get(row).expect("a row").index(false).highest())
    }

    pub fn install(&mut self, key: &FlowKey, entry: &FlowEntry) -> Result<(), DatapathError> {
        let kernel = self.kernel.install(key, entry);
        assert_eq!(kernel, self.memory.install(key, entry));
        assert_eq!(kernel, self.long.install(key, entry));
        kernel
    }

    pub fn remove(&mut self, key: &FlowKey) {
        self.kernel.remove(key).expect("removed");
        self.memory.remove(key).expect("removed");
        self.long.remove(key).expect("removed");
    }

    pub fn set_next_hop(&mut self, index: u32, next_hop: &NextHop) {
        self.kernel.set_next_hop(index, next_hop).expect("written");
        self.memory.set_next_hop(index, next_hop).expect("written");
        self.long.set_next_hop(index, next_hop).expect("written");
    }

    /// Runs a frame through the program in the kernel. The reason is the one counter that moved,
    /// by one packet of the frame's length.
    pub fn in_kernel(&self, input: &[u8]) -> Ran {
        let before = self.kernel.reasons().expect("counters");
        let mut output = vec![0; input.len() + 256];
        let result = self
            .offload
            .relay_program()
            .expect("loaded")
            .test_run(TestRunOptions {
                data_in: Some(input),
                data_out: Some(&mut output),
                ..TestRunOptions::default()
            })
            .expect("a test run");
        output.truncate(result.data_size_out as usize);
        let after = self.kernel.reasons().expect("counters");
        let moved: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .collect();
        let [((_, before), (reason, after))] = moved[..] else {
            panic!("not one reason was counted: {moved:?}");
        };
        assert_eq!(after.packets, before.packets + 1);
        assert_eq!(after.octets, before.octets + input.len() as u64);
        Ran {
            verdict: result.return_value,
            reason: *reason,
            output,
        }
    }

    /// Runs a frame through the datapath in memory, in the shortest way that there is for it, which
    /// must come to what the long way does.
    pub fn in_memory(&mut self, input: &[u8]) -> Ran {
        let short = run(input, |frame| self.memory.relay(frame, INGRESS, NOW));
        let long = run(input, |frame| self.long.relay_any(frame, INGRESS, NOW));
        assert_eq!(
            short, long,
            "the short way on the left, the long on the right"
        );
        for index in 0..self.memory.capacity().flows {
            assert_eq!(self.memory.read(index), self.long.read(index));
        }
        short
    }

    /// Runs a frame through both, which must agree, in the counters of a flow as well.
    pub fn run(&mut self, input: &[u8], counters: u32) -> Ran {
        let before = self.counters(counters);
        let kernel = self.in_kernel(input);
        let memory = self.in_memory(input);
        assert_eq!(
            kernel, memory,
            "the kernel on the left, memory on the right"
        );
        let after = self.counters(counters);
        for (before, after) in before.iter().zip(&after) {
            let forwarded = u64::from(kernel.reason.verdict() == Verdict::Forward);
            assert_eq!(after.packets, before.packets + forwarded);
        }
        assert_eq!(
            after[0].dropped - before[0].dropped,
            after[1].dropped - before[1].dropped
        );
        assert_eq!(
            after[0].octets - before[0].octets,
            after[1].octets - before[1].octets
        );
        kernel
    }

    pub fn counters(&self, index: u32) -> [FlowCounters; 2] {
        [
            self.kernel.read(index).expect("counters"),
            self.memory.read(index).expect("counters"),
        ]
    }
}

/// When the packets in memory come in.
const NOW: u64 = 1_000_000_000;

fn run(input: &[u8], relay: impl FnOnce(&mut BufferFrame<'_>) -> Outcome) -> Ran {
    let mut buffer = vec![0; 256];
    buffer.extend_from_slice(input);
    let end = buffer.len();
    buffer.extend_from_slice(&[0; 256]);
    let mut frame = BufferFrame::between(&mut buffer, 256, end);
    let outcome = relay(&mut frame);
    Ran {
        verdict: match outcome.reason.verdict() {
            Verdict::Forward if outcome.interface == INGRESS => XDP_TX,
            Verdict::Forward => XDP_REDIRECT,
            Verdict::Drop => XDP_DROP,
            Verdict::Punt | Verdict::Pass => XDP_PASS,
        },
        reason: outcome.reason,
        output: frame.octets().to_vec(),
    }
}
