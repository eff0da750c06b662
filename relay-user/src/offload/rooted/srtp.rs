//! SRTP in the kernel against libsrtp: the verifier takes it, the bytes are the same, and what a
//! packet costs.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Instant,
};

use aya::{
    Ebpf, EbpfLoader, TestRun as _, include_bytes_aligned,
    maps::Array,
    programs::{TestRunOptions, Xdp},
};
use rand::Rng as _;
use relay_abi::srtp::key::{PreparedKey, Tag};
use zerocopy::transmute;

use super::packets::{Packet, checksums_are_right, rtp};
use crate::{
    media::{SrtpKey, SrtpSuite},
    srtp::{Inbound, Outbound, TRAILER},
};

static OBJECT: &[u8] = include_bytes_aligned!(env!("SRTP_OBJECT"));

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// The programs, with one key.
struct Kernel {
    bpf: Ebpf,
    key: SrtpKey,
}

impl Kernel {
    fn new(suite: SrtpSuite, mki: &[u8]) -> Self {
        let mut bpf = EbpfLoader::new().load(OBJECT).expect("an object");
        for name in ["protect", "unprotect", "time_protect", "time_unprotect"] {
            let program: &mut Xdp = program(&mut bpf, name);
            program.load().expect("the verifier takes it");
        }
        let master: [u8; 16] = rand::rng().random();
        let salt: [u8; 14] = rand::rng().random();
        let tag = match suite {
            SrtpSuite::AesCm128HmacSha1_80 => Tag::Long,
            _ => Tag::Short,
        };
        let prepared = PreparedKey::new(&master, &salt, tag, mki).expect("a short MKI");
        let words: [u64; 46] = transmute!(prepared);
        set(&mut bpf, "KEYS", words);
        let mut kernel = Self {
            bpf,
            key: SrtpKey {
                suite,
                master: [&master[..], &salt].concat().into(),
                mki: Some(mki.to_vec()).filter(|mki| !mki.is_empty()),
            },
        };
        kernel.rewind();
        kernel
    }

    /// Lets the stream begin anew.
    fn rewind(&mut self) {
        set(&mut self.bpf, "STATES", [0_u64; 17]);
    }

    fn run(&mut self, name: &str, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut output = vec![0; frame.len() + 256];
        let result = program(&mut self.bpf, name)
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut output),
                ..TestRunOptions::default()
            })
            .expect("a test run");
        output.truncate(result.data_size_out as usize);
        (result.return_value, output)
    }

    /// Nanoseconds for each of many runs.
    fn time(&mut self, name: &str, frame: &[u8]) -> u128 {
        let mut output = vec![0; frame.len() + 256];
        let result = program(&mut self.bpf, name)
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut output),
                repeat: REPETITIONS,
                ..TestRunOptions::default()
            })
            .expect("a test run");
        assert_eq!(result.return_value, XDP_TX);
        result.duration.as_nanos()
    }
}

const REPETITIONS: u32 = 200_000;

fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    bpf.program_mut(name)
        .expect("the program")
        .try_into()
        .expect("an XDP program")
}

/// Writes the one element of a map.
fn set<T: aya::Pod>(bpf: &mut Ebpf, name: &str, element: T) {
    let map = bpf.map_mut(name).expect("the map");
    let mut map: Array<_, T> = map.try_into().expect("an array");
    map.set(0, element, 0).expect("an element");
}

fn sealed(context: &mut Outbound, plain: &[u8]) -> Vec<u8> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + TRAILER, 0);
    let length = context.protect(&mut buffer, plain.len()).expect("sealed");
    buffer.truncate(length);
    buffer
}

fn frame(ipv6: bool, payload: &[u8]) -> Vec<u8> {
    let (from, to) = match ipv6 {
        false => ("198.51.100.2:30000", "198.51.100.1:20000"),
        true => ("[2001:db8::2]:30000", "[2001:db8::1]:20000"),
    };
    let mut packet = Packet::new(from, to, payload.to_vec());
    packet.identification = 0x4321;
    packet.octets()
}

#[test]
fn the_kernels_srtp_is_libsrtps_octet_for_octet() {
    for (suite, mki) in [
        (SrtpSuite::AesCm128HmacSha1_80, &[][..]),
        (SrtpSuite::AesCm128HmacSha1_32, &[]),
        (SrtpSuite::AesCm128HmacSha1_80, &[9; 128]),
        (SrtpSuite::AesCm128HmacSha1_32, &[1, 2, 3, 4]),
    ] {
        let mut kernel = Kernel::new(suite, mki);
        for ipv6 in [false, true] {
            kernel.rewind();
            let mut context = Outbound::new(&kernel.key).expect("a key");
            let mut packets = Vec::new();
            for payload in 0..=320 {
                let octets: Vec<u8> = (0..payload).map(|_| rand::rng().random()).collect();
                // Two turns of the sequence number.
                let sequence = (payload as u16).wrapping_mul(410);
                let plain = match payload % 3 {
                    0 => rtp(0x80, 0, sequence, 1, 7, &octets),
                    1 => rtp(0x82, 0, sequence, 1, 7, &[&[5; 8], &octets[..]].concat()),
                    _ => {
                        let extension = [0xbe, 0xde, 0, 1, 2, 3, 4, 5];
                        rtp(0x90, 0, sequence, 1, 7, &[&extension, &octets[..]].concat())
                    }
                };
                let protected = sealed(&mut context, &plain);
                let (verdict, output) = kernel.run("protect", &frame(ipv6, &plain));
                assert_eq!(verdict, XDP_TX);
                assert_eq!(output, frame(ipv6, &protected), "{payload} octets");
                assert_eq!(checksums_are_right(&output), Some(true));
                packets.push((plain, protected));
            }
            kernel.rewind();
            for (plain, protected) in &packets {
                let mut damaged = protected.clone();
                let bit = rand::rng().random_range(8 * 12..8 * protected.len());
                damaged[bit / 8] ^= 1 << (bit % 8);
                let (verdict, _) = kernel.run("unprotect", &frame(ipv6, &damaged));
                assert_eq!(verdict, XDP_DROP, "bit {bit} changed");
                let (verdict, output) = kernel.run("unprotect", &frame(ipv6, protected));
                assert_eq!(verdict, XDP_TX);
                assert_eq!(output, frame(ipv6, plain));
                let (verdict, _) = kernel.run("unprotect", &frame(ipv6, protected));
                assert_eq!(verdict, XDP_DROP, "again");
            }
        }
        let long = rtp(0x80, 0, 1, 1, 7, &[0; 488]);
        let input = frame(false, &long);
        assert_eq!(kernel.run("protect", &input), (XDP_PASS, input));
    }
}

/// Four threads give the kernel the same packets, each all of them: each packet is taken once.
#[test]
fn of_equal_packets_on_many_cpus_the_kernel_takes_one() {
    const PACKETS: usize = 2000;
    let mut kernel = Kernel::new(SrtpSuite::AesCm128HmacSha1_80, &[]);
    let mut context = Outbound::new(&kernel.key).expect("a key");
    let frames: Vec<_> = (0..PACKETS)
        .map(|number| {
            let plain = rtp(
                0x80,
                0,
                65_000_u16.wrapping_add(number as u16),
                1,
                7,
                &[3; 20],
            );
            frame(false, &sealed(&mut context, &plain))
        })
        .collect();
    let program: &Xdp = program(&mut kernel.bpf, "unprotect");
    let taken: Vec<AtomicU32> = frames.iter().map(|_| AtomicU32::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (frame, taken) in frames.iter().zip(&taken) {
                    let mut output = vec![0; 512];
                    let result = program
                        .test_run(TestRunOptions {
                            data_in: Some(frame),
                            data_out: Some(&mut output),
                            ..TestRunOptions::default()
                        })
                        .expect("a test run");
                    if result.return_value == XDP_TX {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    for (number, taken) in taken.iter().enumerate() {
        assert_eq!(taken.load(Ordering::Relaxed), 1, "packet {number}");
    }
}

/// Tells what a packet of 160 octets costs, here and by libsrtp. The times differ from machine to
/// machine, so only the bytes are asserted.
#[test]
fn the_cost_of_a_packet_is_told() {
    let mut kernel = Kernel::new(SrtpSuite::AesCm128HmacSha1_80, &[]);
    let plain = rtp(0x80, 0, 1, 1, 7, &[0x55; 160]);
    let protected = sealed(&mut Outbound::new(&kernel.key).expect("a key"), &plain);
    let mut saved = [0_u8; 1024];
    saved[..4].copy_from_slice(&(protected.len() as u32).to_ne_bytes());
    saved[4..4 + protected.len()].copy_from_slice(&protected);
    let words: [u64; 128] = transmute!(saved);
    set(&mut kernel.bpf, "SAVED", words);

    for name in ["protect", "unprotect"] {
        let information = program(&mut kernel.bpf, name).info().expect("loaded");
        let followed = information.verified_instruction_count();
        println!("{name}: the verifier followed {followed:?} instructions");
    }
    for _ in 0..5 {
        let protect = kernel.time("time_protect", &frame(false, &plain));
        let unprotect = kernel.time("time_unprotect", &frame(false, &protected));
        let [theirs_protect, theirs_unprotect] = libsrtp(&kernel.key);
        println!(
            "protect {protect} ns, libsrtp {theirs_protect} ns; \
             unprotect {unprotect} ns, libsrtp {theirs_unprotect} ns"
        );
    }
}

/// What libsrtp takes for a packet, in nanoseconds: protecting, then unprotecting.
fn libsrtp(key: &SrtpKey) -> [u128; 2] {
    const PACKETS: u32 = 60_000;
    let mut out = Outbound::new(key).expect("a key");
    let mut back = Inbound::new(key).expect("a key");
    let packet = |sequence: u32| {
        let mut packet = rtp(0x80, 0, sequence as u16, 1, 7, &[0x55; 160]);
        packet.resize(172 + TRAILER, 0);
        packet
    };
    let mut buffers: Vec<_> = (0..PACKETS).map(packet).collect();
    let begin = Instant::now();
    for buffer in &mut buffers {
        black_box(out.protect(buffer, 172)).expect("protected");
    }
    let protect = begin.elapsed();
    let begin = Instant::now();
    for buffer in &mut buffers {
        black_box(back.unprotect(&mut buffer[..182])).expect("unprotected");
    }
    let unprotect = begin.elapsed();
    [protect, unprotect].map(|time| time.as_nanos() / u128::from(PACKETS))
}
