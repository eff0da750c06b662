//! What a packet costs in the programs, by test run, what the verifier followed of them, and what
//! SRTP costs on the host.

use std::{net::SocketAddr, time::Duration};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use etherparse::PacketBuilder;
use relay_abi::{
    U16, U32,
    flow::{FlowEntry, PayloadTypePair},
    next_hop::NextHop,
};

use super::{
    Failure, Place, Stamp,
    calls::{PAYLOAD_TYPE, rtp},
    refused, srtp_cost,
};
use crate::{
    offload::{Datapath as _, Offload, OffloadConfig, XdpMode, run_again, unless_interrupted},
    slow::{endpoint, flow_key},
};

/// Octets of payload: 20 ms of G.711.
const PAYLOAD: usize = 160;
const SSRC: u32 = 0x1111_2222;

/// One measured quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
}

fn nanoseconds(name: impl Into<String>, value: f64) -> Cost {
    Cost {
        name: name.into(),
        unit: "ns",
        value,
    }
}

/// How many instructions the verifier followed of each program when this was last looked at, and on
/// which kernel: another may follow more or fewer.
pub const VERIFIED: [(&str, u32); 4] = [
    ("relay", 50_988),
    ("relay_srtp", 149_003),
    ("relay_srtp_out", 44_364),
    ("hand_over", 461),
];
pub const VERIFIED_ON: &str = "6.18";

struct Fixture {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    /// Flows that the frame may meet.
    installed: bool,
}

/// Frames that the program leaves as they are, but for the hop limit: so they can be given to it
/// again and again.
const FIXTURES: [Fixture; 4] = [
    Fixture {
        name: "relayed_ipv4",
        from: "198.51.100.2:30000",
        to: "198.51.100.1:20000",
        installed: true,
    },
    Fixture {
        name: "relayed_ipv6",
        from: "[2001:db8:1::2]:30000",
        to: "[2001:db8:1::1]:20000",
        installed: true,
    },
    Fixture {
        name: "no_flow",
        from: "198.51.100.2:30000",
        to: "198.51.100.1:20002",
        installed: false,
    },
    Fixture {
        name: "not_media",
        from: "198.51.100.2:30000",
        to: "198.51.100.1:5060",
        installed: false,
    },
];

fn frame(from: &str, to: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse()?, to.parse()?);
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let builder = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            builder.ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            builder.ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        _ => return Err("a packet between two families".into()),
    };
    let builder = builder.udp(from.port(), to.port());
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload)?;
    Ok(frame)
}

/// The nanoseconds of each fixture in the program `relay`, and what the verifier followed.
///
/// # Errors
/// When the kernel refuses the programs.
pub fn relay() -> Result<Vec<Cost>, Failure> {
    // Attached somewhere, to a loopback interface that nothing uses, the program stays in use:
    // without that the kernel patches its dispatcher for each test run, which takes milliseconds.
    Place::new()?.enter(relay_here)?
}

fn relay_here() -> Result<Vec<Cost>, Failure> {
    let mut offload = Offload::load(&OffloadConfig {
        mode: XdpMode::Generic,
        forced: true,
        interfaces: vec!["lo".to_owned()],
        flows: 64,
        next_hops: 4,
        srtp_streams: 0,
        media_ports: 20_000..=29_999,
        workers: 1,
    });
    let mut datapath = offload
        .take_datapath()
        .ok_or_else(|| offload.steps().join("; "))?;
    // The interface that test runs come in by, and another that is never asked: the verdict alone
    // is looked at.
    datapath.set_device(0, 1)?;
    datapath.set_next_hop(
        0,
        &NextHop {
            interface: U32::new(1),
            device: U32::new(0),
            mtu: U16::new(1500),
            source: [2, 0, 0, 0, 0, 2],
            destination: [2, 0, 0, 0, 0, 1],
            resolved: 1,
            ..NextHop::default()
        },
    )?;
    let mut costs = Vec::new();
    for (number, fixture) in FIXTURES.iter().enumerate() {
        let (from, to) = (fixture.from.parse()?, fixture.to.parse()?);
        if fixture.installed {
            let mut payload_types = [PayloadTypePair::default(); 8];
            payload_types[0] = PayloadTypePair {
                incoming: PAYLOAD_TYPE,
                outgoing: PAYLOAD_TYPE,
            };
            // What leaves is what came.
            datapath.install(
                &flow_key(to),
                &FlowEntry {
                    peer: endpoint(from),
                    from: endpoint(from),
                    to: endpoint(to),
                    flags: U16::new(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN),
                    ssrc_in: U32::new(SSRC),
                    ssrc_out: U32::new(SSRC),
                    counters: U32::new(number as u32),
                    generation: U32::new(1),
                    clock_rate: U32::new(8_000),
                    payload_type_count: 1,
                    payload_types,
                    ..FlowEntry::default()
                },
            )?;
        }
        let frame = frame(fixture.from, fixture.to, &rtp(SSRC, PAYLOAD, Stamp::None))?;
        let program = offload.relay_program().ok_or("the relay is not loaded")?;
        let (verdict, time) = timed(program, &frame, RUNS, AT_ONCE)?;
        let forwarded = verdict == XDP_TX || verdict == XDP_REDIRECT;
        if forwarded != fixture.installed {
            return Err(format!("{}: the verdict is {verdict}", fixture.name).into());
        }
        costs.push(nanoseconds(format!("xdp_{}_ns", fixture.name), time));
    }
    let program = offload.relay_program().ok_or("the relay is not loaded")?;
    costs.extend(verified("relay", program)?);
    Ok(costs)
}

const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// How often a frame is given to a program, and how many times it goes through each time: fewer
/// than its hop limit.
const RUNS: usize = 1_000;
const AT_ONCE: u32 = 50;

/// The verdict on a frame, and the median of its times in nanoseconds.
fn timed(program: &Xdp, frame: &[u8], runs: usize, at_once: u32) -> Result<(u32, f64), Failure> {
    let mut output = vec![0; frame.len() + 256];
    let mut times = Vec::with_capacity(runs);
    let mut verdict = 0;
    for _ in 0..runs {
        let result = run_again(|| {
            unless_interrupted(program.test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut output),
                repeat: at_once,
                ..TestRunOptions::default()
            }))
        });
        let result = result
            .map_err(refused("run a program on a fixture"))?
            .ok_or("signals broke off every run")?;
        verdict = result.return_value;
        times.push(result.duration);
    }
    times.sort_unstable();
    let median = times.get(runs / 2).copied().unwrap_or(Duration::ZERO);
    Ok((verdict, median.as_nanos() as f64))
}

/// What the verifier followed of a program, and beside it what is checked in.
fn verified(name: &str, program: &Xdp) -> Result<Vec<Cost>, Failure> {
    let information = program.info().map_err(refused("ask for a program"))?;
    let mut costs = Vec::new();
    if let Some(followed) = information.verified_instruction_count() {
        costs.push(Cost {
            name: format!("{name}_verified"),
            unit: "instructions",
            value: f64::from(followed),
        });
    }
    if let Some((_, known)) = VERIFIED.iter().find(|(known, _)| *known == name) {
        costs.push(Cost {
            name: format!("{name}_verified_checked_in"),
            unit: "instructions",
            value: f64::from(*known),
        });
    }
    Ok(costs)
}

/// What the verifier followed of the programs that `relay` goes on to, and the nanoseconds of
/// [`SrtpCost`](super::SrtpCost): `xdp_protect_ns`, `libsrtp_protect_ns` and so on.
///
/// # Errors
/// When the kernel refuses the programs.
pub fn srtp() -> Result<Vec<Cost>, Failure> {
    let mut costs = Vec::new();
    let offload = Offload::load(&OffloadConfig {
        mode: XdpMode::Native,
        forced: true,
        interfaces: Vec::new(),
        flows: 1,
        next_hops: 1,
        srtp_streams: 1,
        media_ports: 20_000..=20_001,
        workers: 1,
    });
    for (name, program) in offload.further_programs() {
        costs.extend(verified(name, program)?);
    }
    let cost = srtp_cost()?;
    for (name, time) in [
        ("xdp_protect_ns", cost.one.protect),
        ("xdp_unprotect_ns", cost.one.unprotect),
        ("xdp_both_ns", cost.both),
        ("libsrtp_protect_ns", cost.one.libsrtp_protect),
        ("libsrtp_unprotect_ns", cost.one.libsrtp_unprotect),
        ("xdp_protect_streams_ns", cost.many.protect),
        ("xdp_unprotect_streams_ns", cost.many.unprotect),
        ("libsrtp_protect_streams_ns", cost.many.libsrtp_protect),
        ("libsrtp_unprotect_streams_ns", cost.many.libsrtp_unprotect),
    ] {
        costs.push(nanoseconds(name, time as f64));
    }
    Ok(costs)
}

#[cfg(test)]
mod rooted {
    use super::*;

    /// On the kernel of the checked-in values the verifier follows about what they say: whoever
    /// changes a program sees what that does, and checks a new value in.
    #[test]
    fn the_verifier_follows_what_is_checked_in() {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
        let mut costs = relay().expect("the relay");
        costs.extend(srtp().expect("SRTP"));
        let value = |name: String| {
            costs
                .iter()
                .find(|cost| cost.name == name)
                .map(|cost| cost.value)
        };
        for (name, known) in VERIFIED {
            let followed = value(format!("{name}_verified")).expect("a count");
            let known = f64::from(known);
            println!(
                "{name}: the verifier followed {followed} instructions, checked in are {known}"
            );
            if kernel.starts_with(VERIFIED_ON) {
                assert!(
                    (known * 0.8..=known * 1.05).contains(&followed),
                    "{name}: {followed} instructions, checked in are {known}: if that is meant, \
                     change VERIFIED"
                );
            }
        }
    }
}
