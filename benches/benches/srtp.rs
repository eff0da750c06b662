//! SRTP of a packet with 160 octets of payload, AES_CM_128_HMAC_SHA1_80: ours, which the XDP
//! program runs, compiled for the host, beside libsrtp.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use relay_abi::srtp::{
    index::IndexState,
    key::{PreparedKey, Tag},
    packet::Work,
};
use relay_user::{
    media::{SrtpKey, SrtpSuite},
    srtp::{Inbound, Outbound, TRAILER},
};

const LENGTH: usize = 12 + 160;
const MASTER: [u8; 16] = [0x21; 16];
const SALT: [u8; 14] = [0x42; 14];

/// Packets in order, by number: each has a sequence number of its own.
fn packet(number: u64) -> [u8; LENGTH] {
    let mut packet = [0xd5; LENGTH];
    packet[..2].copy_from_slice(&[0x80, 8]);
    packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
    packet[8..12].copy_from_slice(&7_u32.to_be_bytes());
    packet
}

/// How many packets are protected at once for unprotecting: well within one turn.
const AT_ONCE: u64 = 30_000;

fn srtp(criterion: &mut Criterion) {
    let prepared = PreparedKey::new(&MASTER, &SALT, Tag::Long, &[]).expect("a key");
    let key = SrtpKey {
        suite: SrtpSuite::AesCm128HmacSha1_80,
        master: [&MASTER[..], &SALT].concat().into(),
        mki: None,
    };
    let trailer = prepared.trailer();

    let (state, mut work, mut number) = (IndexState::default(), Work::default(), 0);
    criterion.bench_function("SRTP protect, ours", |bencher| {
        bencher.iter(|| {
            work.packet()[..LENGTH].copy_from_slice(&packet(number));
            number += 1;
            black_box(work.protect(&prepared, &state, LENGTH)).expect("protected")
        });
    });

    let (mut context, mut number) = (Outbound::new(&key).expect("a key"), 0);
    let mut buffer = [0; LENGTH + TRAILER];
    criterion.bench_function("SRTP protect, libsrtp", |bencher| {
        bencher.iter(|| {
            buffer[..LENGTH].copy_from_slice(&packet(number));
            number += 1;
            black_box(context.protect(&mut buffer, LENGTH)).expect("protected")
        });
    });

    let mut context = Outbound::new(&key).expect("a key");
    let protected: Vec<Vec<u8>> = (0..AT_ONCE)
        .map(|number| {
            let mut buffer = packet(number).to_vec();
            buffer.resize(LENGTH + TRAILER, 0);
            let length = context.protect(&mut buffer, LENGTH).expect("protected");
            buffer.truncate(length);
            buffer
        })
        .collect();

    let (mut state, mut number) = (IndexState::default(), 0);
    criterion.bench_function("SRTP unprotect, ours", |bencher| {
        bencher.iter(|| {
            let place = (number % AT_ONCE) as usize;
            if place == 0 {
                // The same packets again, as a stream of its own.
                state = IndexState::default();
            }
            number += 1;
            let length = LENGTH + trailer;
            work.packet()[..length].copy_from_slice(&protected[place]);
            black_box(work.unprotect(&prepared, &state, length)).expect("unprotected")
        });
    });

    let (mut context, mut number) = (Inbound::new(&key).expect("a key"), 0);
    criterion.bench_function("SRTP unprotect, libsrtp", |bencher| {
        bencher.iter(|| {
            let place = (number % AT_ONCE) as usize;
            if place == 0 {
                context = Inbound::new(&key).expect("a key");
            }
            number += 1;
            let length = LENGTH + trailer;
            buffer[..length].copy_from_slice(&protected[place]);
            black_box(context.unprotect(&mut buffer[..length])).expect("unprotected")
        });
    });
}

criterion_group!(benches, srtp);
criterion_main!(benches);
