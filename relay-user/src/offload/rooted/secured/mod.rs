//! Flows with SRTP, in the kernel and in memory side by side, against libsrtp.

use rand::Rng as _;
use relay_abi::{
    U16,
    flow::FlowEntry,
    srtp::stream::RowReference,
    verdict::{Reason, Verdict},
};

use super::{
    lab::{Lab, Ran, XDP_REDIRECT, entry, key, next_hop},
    packets::{Packet, checksums_are_right, rtp},
};
use crate::{
    media::{SrtpKey, SrtpSuite},
    offload::Datapath as _,
    srtp::{Outbound, StreamKey, TRAILER},
};

mod bytes;
mod differential;
mod refusals;
mod shared;

pub const SUITES: [SrtpSuite; 2] = [
    SrtpSuite::AesCm128HmacSha1_80,
    SrtpSuite::AesCm128HmacSha1_32,
];
const PEERS: [&str; 2] = ["198.51.100.2:30000", "[2001:db8:1::2]:30000"];
const LOCALS: [&str; 2] = ["198.51.100.1:20000", "[2001:db8:1::1]:20000"];
const FROM: [&str; 2] = ["203.0.113.1:20002", "[2001:db8:2::1]:20002"];
const TO: [&str; 2] = ["203.0.113.2:40000", "[2001:db8:2::2]:40000"];

/// Which way the flow has SRTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Protect,
    Unprotect,
    Both,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Protect, Self::Unprotect, Self::Both];

    fn unprotects(self) -> bool {
        self != Self::Protect
    }

    fn protects(self) -> bool {
        self != Self::Unprotect
    }

    fn flags(self) -> u16 {
        u16::from(self.unprotects()) * FlowEntry::UNPROTECT
            + u16::from(self.protects()) * FlowEntry::PROTECT
    }
}

pub fn random_key(suite: SrtpSuite, mki: usize) -> SrtpKey {
    let master: [u8; 30] = rand::rng().random();
    let mki: Vec<u8> = (0..mki).map(|_| rand::rng().random()).collect();
    SrtpKey {
        suite,
        master: master.to_vec().into(),
        mki: Some(mki).filter(|mki| !mki.is_empty()),
    }
}

pub fn row(row: u32, generation: u32) -> RowReference {
    RowReference::new(row, generation).expect("a reference")
}

/// What libsrtp makes of an RTP packet.
pub fn sealed(context: &mut Outbound, plain: &[u8]) -> Vec<u8> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + TRAILER, 0);
    let length = context.protect(&mut buffer, plain.len()).expect("sealed");
    buffer.truncate(length);
    buffer
}

/// Writes a key into a row of both datapaths.
pub fn write_key(lab: &mut Lab, row: RowReference, key: &SrtpKey) {
    let key = StreamKey::new(key).expect("a key that the kernel serves");
    lab.write_key(row, &key);
}

/// A flow of SRTP with its keys: rows 3 for what comes in and 7 for what goes out.
pub struct Secured {
    pub way: Way,
    pub family: usize,
    pub key_in: SrtpKey,
    pub key_out: SrtpKey,
    /// Libsrtp's contexts of the peer and of what the other leg gets.
    pub peer: Outbound,
    pub other: Outbound,
    pub entry: FlowEntry,
}

impl Secured {
    pub fn install(lab: &mut Lab, way: Way, family: usize, suite: SrtpSuite, mki: usize) -> Self {
        let [key_in, key_out] = [0, 1].map(|_| random_key(suite, mki));
        let mut entry = entry(PEERS[family], FROM[family], TO[family]);
        entry.flags = U16::new(entry.flags.get() | way.flags());
        entry.unprotect = row(3, 1);
        entry.protect = row(7, 2);
        write_key(lab, entry.unprotect, &key_in);
        write_key(lab, entry.protect, &key_out);
        lab.set_next_hop(3, &next_hop(&[]));
        lab.install(&key(LOCALS[family]), &entry).expect("a flow");
        Self {
            way,
            family,
            peer: Outbound::new(&key_in).expect("a key"),
            other: Outbound::new(&key_out).expect("a key"),
            key_in,
            key_out,
            entry,
        }
    }

    /// The frame that the peer sends with an RTP packet.
    pub fn sent(&mut self, plain: &[u8]) -> Packet {
        let payload = if self.way.unprotects() {
            sealed(&mut self.peer, plain)
        } else {
            plain.to_vec()
        };
        Packet::new(PEERS[self.family], LOCALS[self.family], payload)
    }

    /// The frame that leaves for an RTP packet that the peer sent: translated and, where the other
    /// leg gets SRTP, protected by libsrtp.
    pub fn relayed(&mut self, plain: &[u8]) -> Packet {
        let translated = self.translated(plain);
        let payload = if self.way.protects() {
            sealed(&mut self.other, &translated)
        } else {
            translated
        };
        Packet {
            source: [2, 0, 0, 0, 1, 1],
            destination: [2, 0, 0, 0, 1, 2],
            hop_limit: 63,
            identification: 0,
            do_not_fragment: true,
            flow_label: 0,
            ..Packet::new(FROM[self.family], TO[self.family], payload)
        }
    }

    fn translated(&self, plain: &[u8]) -> Vec<u8> {
        let field = |at: usize| u32::from_be_bytes(plain[at..at + 4].try_into().expect("four"));
        let sequence = (field(0) as u16).wrapping_add(self.entry.sequence_offset.get());
        let timestamp = field(4).wrapping_add(self.entry.timestamp_offset.get());
        let marker = plain[1] & 0x80;
        let payload_type = self
            .entry
            .outgoing_payload_type(plain[1] & 0x7f)
            .expect("a payload type of the flow");
        rtp(
            plain[0],
            marker | payload_type,
            sequence,
            timestamp,
            self.entry.ssrc_out.get(),
            &plain[12..],
        )
    }

    /// Sends an RTP packet through both datapaths; the frame that leaves is the expected one.
    pub fn relays(&mut self, lab: &mut Lab, plain: &[u8]) {
        let input = self.sent(plain).octets();
        let expected = self.relayed(plain).octets();
        let ran = lab.run(&input, 5);
        assert_eq!(
            ran,
            Ran {
                verdict: XDP_REDIRECT,
                reason: Reason::Relayed,
                output: expected,
            }
        );
        assert_eq!(checksums_are_right(&ran.output), Some(true));
    }

    /// Sends a frame that is not relayed, for a reason; a frame that is punted stays as it came.
    pub fn refuses(&self, lab: &mut Lab, input: &[u8], reason: Reason) {
        let ran = lab.run(input, 5);
        assert_eq!(ran.reason, reason);
        assert_ne!(reason.verdict(), Verdict::Forward);
        if reason.verdict() != Verdict::Drop {
            assert_eq!(ran.output, input);
        }
    }
}

/// An RTP packet of the flow's SSRC.
pub fn packet(sequence: u16, payload: &[u8]) -> Vec<u8> {
    rtp(0x80, 0, sequence, 1, 0x1111_2222, payload)
}

/// The kernel's counters of a reason.
pub fn counted(lab: &Lab, reason: Reason) -> u64 {
    lab.kernel.reasons().expect("counters")[reason as usize]
        .1
        .packets
}
