//! The kernel's SRTP and its form for userspace, in turn over the same indices, against libsrtp:
//! random keys, losses, duplicates, reordering, turns of the sequence number and damage must come
//! out the same, octet for octet and refusal for refusal.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use relay_abi::srtp::{
    buffer,
    index::{IndexError, IndexState},
    key::{PreparedKey, Tag},
    packet::{CryptError, LONGEST, Work},
};

use super::{
    Outbound, SrtpError, StreamKey, TRAILER,
    session::{Direction, Operation, Session},
};
use crate::media::{SrtpKey, SrtpSuite};

/// Packets in one run of the suite. `TRUNKLINE_SRTP_PACKETS` asks for another number.
fn packets() -> u64 {
    std::env::var("TRUNKLINE_SRTP_PACKETS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_000)
}

/// One key in both implementations, in both directions.
struct Pair {
    /// The latter without the search for a first packet's turn, which is ours.
    theirs: (Outbound, Session),
    key: PreparedKey,
    /// By the processor's instructions.
    quick: StreamKey,
    out: IndexState,
    back: IndexState,
    /// Who has the next packet, where both can.
    kernel: bool,
}

fn pair(random: &mut StdRng) -> Pair {
    let (suite, tag) = match random.random() {
        true => (SrtpSuite::AesCm128HmacSha1_80, Tag::Long),
        false => (SrtpSuite::AesCm128HmacSha1_32, Tag::Short),
    };
    let master: [u8; 16] = random.random();
    let salt: [u8; 14] = random.random();
    let mki: Vec<u8> = match random.random_range(0..4) {
        0 => (0..random.random_range(1..=128))
            .map(|_| random.random())
            .collect(),
        1 => vec![1],
        _ => Vec::new(),
    };
    let key = SrtpKey {
        suite,
        master: [&master[..], &salt].concat().into(),
        mki: Some(mki.clone()).filter(|mki| !mki.is_empty()),
    };
    let prepared = PreparedKey::new(&master, &salt, tag, &mki).expect("the MKI is short enough");
    Pair {
        theirs: (
            Outbound::new(&key).expect("the key fits"),
            Session::new(&key, Direction::Inbound).expect("the key fits"),
        ),
        quick: StreamKey::from(&prepared),
        key: prepared,
        out: IndexState::default(),
        back: IndexState::default(),
        kernel: false,
    }
}

fn packet(random: &mut StdRng, sequence: u16, ssrc: u32) -> Vec<u8> {
    let sources: u8 = if random.random_ratio(1, 4) {
        random.random_range(0..16)
    } else {
        0
    };
    let extension = random
        .random_ratio(1, 4)
        .then(|| random.random_range(0..10_u8));
    let mut packet = vec![
        0x80 | sources | if extension.is_some() { 0x10 } else { 0 },
        random.random(),
    ];
    packet.extend(sequence.to_be_bytes());
    packet.extend(random.random::<[u8; 4]>());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..4 * sources).map(|_| random.random::<u8>()));
    if let Some(words) = extension {
        packet.extend([0xbe, 0xde, 0, words]);
        packet.extend((0..4 * words).map(|_| random.random::<u8>()));
    }
    let payload = match random.random_range(0..4) {
        0 => 160,
        1 if random.random_ratio(1, 8) => random.random_range(320..=1400),
        _ => random.random_range(0..=320),
    };
    packet.extend((0..payload).map(|_| random.random::<u8>()));
    packet
}

/// The next sequence number, counted over all turns: mostly onwards from `at`, which is moved; now
/// and then by a jump, late or again.
fn step(random: &mut StdRng, at: &mut i64) -> u16 {
    let late = match random.random_range(0..20) {
        0 => {
            *at += random.random_range(2..300);
            0
        }
        1 => {
            *at += random.random_range(300..30_000);
            0
        }
        2 => random.random_range(0..200),
        _ => {
            *at += 1;
            0
        }
    };
    (*at - late).max(0) as u16
}

fn kind(error: CryptError) -> SrtpError {
    match error {
        CryptError::Index(IndexError::Replay | IndexError::Old) => SrtpError::Replay,
        CryptError::Authentication => SrtpError::Authentication,
        CryptError::Mki => SrtpError::Mki,
        CryptError::Malformed => SrtpError::Malformed,
        CryptError::TooLong | CryptError::Index(_) => SrtpError::Failed,
    }
}

impl Pair {
    fn protect(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + TRAILER, 0);
        let theirs = self.theirs.0.protect(&mut buffer, packet.len());
        let theirs = theirs.map(|length| buffer[..length].to_vec());
        let ours = match self.kernel && packet.len() <= LONGEST {
            true => {
                let mut work = work(packet);
                let length = work.protect(&self.key, &self.out, packet.len());
                length.map(|length| work.packet()[..length].to_vec())
            }
            false => {
                let mut buffer = packet.to_vec();
                buffer.resize(packet.len() + self.key.trailer(), 0);
                match packet.first_chunk::<4>() {
                    Some([.., odd]) if odd % 2 == 1 => {
                        buffer::protect(&self.key, &self.out, &mut buffer, packet.len())
                    }
                    _ => buffer::protect(&self.quick, &self.out, &mut buffer, packet.len()),
                }
                .map(|_| buffer)
            }
        };
        assert_eq!(ours.map_err(kind), theirs, "protecting");
        theirs
    }

    fn unprotect(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let mut buffer = packet.to_vec();
        let length = buffer.len();
        let theirs = &mut self.theirs.1;
        let theirs = theirs.run(Operation::Unprotect, &mut buffer, length);
        let theirs = theirs.map(|length| buffer[..length].to_vec());
        let ours = match self.kernel && packet.len() <= LONGEST {
            true => {
                let mut work = work(packet);
                let length = work.unprotect(&self.key, &self.back, packet.len());
                length.map(|length| work.packet()[..length].to_vec())
            }
            false => {
                let mut buffer = packet.to_vec();
                let length = match packet.first_chunk::<4>() {
                    Some([.., odd]) if odd % 2 == 1 => {
                        buffer::unprotect(&self.quick, &self.back, &mut buffer)
                    }
                    _ => buffer::unprotect(&self.key, &self.back, &mut buffer),
                };
                length.map(|length| buffer[..length].to_vec())
            }
        };
        assert_eq!(ours.map_err(kind), theirs, "unprotecting");
        theirs
    }
}

fn work(packet: &[u8]) -> Work {
    let mut work = Work::default();
    work.packet()[..packet.len()].copy_from_slice(packet);
    work
}

#[test]
fn ours_and_libsrtp_agree_on_every_packet() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut done = 0;
    let (mut taken, mut refused, mut turns) = (0_u64, 0_u64, 0);
    while done < packets() {
        let mut pair = pair(&mut random);
        let ssrc = random.random();
        let mut at: i64 = random.random_range(0..0x1_0000);
        for _ in 0..2000 {
            done += 1;
            pair.kernel = random.random();
            let sequence = step(&mut random, &mut at);
            let plain = packet(&mut random, sequence, ssrc);
            let Ok(sealed) = pair.protect(&plain) else {
                refused += 1;
                continue;
            };
            match random.random_range(0..10) {
                // Lost.
                0 => continue,
                1 => {
                    let mut damaged = sealed.clone();
                    let bit = random.random_range(0..8 * (damaged.len() - 12)) + 96;
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    refused += u64::from(pair.unprotect(&damaged).is_err());
                }
                2 => {
                    let _ = pair.unprotect(&sealed);
                }
                _ => {}
            }
            match pair.unprotect(&sealed) {
                Ok(back) => {
                    assert_eq!(back, plain);
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
        }
        turns = turns.max(pair.out.roc());
        assert_eq!(pair.theirs.0.roc(ssrc), Some(pair.out.roc()));
    }
    println!("{done} packets, {taken} taken, {refused} refused, at most {turns} turns");
    assert!(taken > done / 2 && refused > done / 20 && turns > 2);
}
