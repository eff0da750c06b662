//! The relay that is measured, as a process of its own: the whole media plane with the calls of
//! the load. It answers over its standard output what it is asked over its standard input, so that
//! it can be stopped, and its memory looked at, as that of any other relay.

use std::{
    io::{BufRead as _, Write as _, stdin, stdout},
    str::FromStr,
};

use super::{
    Addresses as _, CALLS, EGRESS, Failure, INGRESS, Kind, PAYLOAD_TYPE, RELAY_CPU, callee, caller,
    callers_key, key, pin,
};
use relay_abi::{flow::PAYLOAD_TYPES, verdict::Verdict};

use crate::{
    media::{
        CallId, CallMedia, Family, Latching, LegMedia, MediaInterface, MediaPlane as _, Path,
        Relay, RelayConfig, RemoteMedia, SourcePolicy, SrtpKeys, Stream,
    },
    offload::XdpMode,
};

/// The argument by which a program that starts a [`Served`](super::Served) relay is told to be one;
/// a [`Service`] as text follows.
pub const SERVE: &str = "--serve-measured-relay";

/// The local ports: as many pairs as there are calls.
pub(super) const FIRST_PORT: u16 = 20_000;

/// What the relay is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// By the XDP program, or by one worker that the program hands everything over to.
    pub fast: bool,
    pub kind: Kind,
    pub family: Family,
}

impl Service {
    /// The service as one argument.
    #[must_use]
    pub fn to_argument(self) -> String {
        let path = if self.fast { "fast" } else { "slow" };
        let family = match self.family {
            Family::V4 => "v4",
            Family::V6 => "v6",
        };
        format!("{path},{},{family}", self.kind.name())
    }
}

impl FromStr for Service {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || format!("{text:?} is no service: fast,rtp,v4 for one is");
        let parts: Vec<&str> = text.split(',').collect();
        let [path, kind, family] = parts[..] else {
            return Err(wrong().into());
        };
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
        Ok(Self {
            fast: path == "fast",
            kind: kind.ok_or_else(wrong)?,
            family: if family == "v6" {
                Family::V6
            } else {
                Family::V4
            },
        })
    }
}

/// Serves until the standard input ends: sets the calls up, names each one's ports in a line of
/// its own (`call`, where the caller sends to, where the callee hears from), and says `ready`; then
/// answers each line with the state of the media plane in one. What goes wrong is a line `failed`
/// as well.
///
/// # Errors
/// When the media plane does not start, or refuses a call.
pub fn serve(service: Service) -> Result<(), Failure> {
    let served = serve_calls(service);
    if let Err(why) = &served {
        println!("failed {why}");
    }
    served
}

fn serve_calls(service: Service) -> Result<(), Failure> {
    // Before there are other threads: they inherit it.
    pin(0, RELAY_CPU)?;
    let family = service.family;
    let interface = |name: &str, address| MediaInterface {
        name: name.to_owned(),
        addresses: vec![address],
    };
    let mut relay = Relay::start(&RelayConfig {
        interfaces: vec![
            interface(INGRESS, family.ours_to_caller()),
            interface(EGRESS, family.ours_to_callee()),
        ],
        ports: FIRST_PORT..=FIRST_PORT + 2 * CALLS - 1,
        workers: 1,
        busy_poll: false,
        xdp: XdpMode::Native,
        xdp_forced: true,
        flows: 2 * u32::from(CALLS),
        next_hops: 16,
        srtp_offload: service.fast,
        srtp_streams: 2 * u32::from(CALLS),
    })?;
    let mut output = stdout().lock();
    for number in 0..CALLS {
        let legs = [
            leg(&mut relay, service, number, INGRESS)?,
            leg(&mut relay, service, number, EGRESS)?,
        ];
        let [local, from] = [&legs[0], &legs[1]].map(|leg| leg.port.rtp);
        let stream = Stream {
            active: true,
            payload_types: payload_types(service),
            clock_rate: 8_000,
        };
        let media = CallMedia {
            legs,
            streams: [stream.clone(), stream],
        };
        let paths = relay.connect(CallId(u64::from(number)), media)?;
        if let (true, Some(Path::Userspace(reason))) = (service.fast, paths.first()) {
            return Err(format!("the kernel does not take the call: {}", reason.name()).into());
        }
        writeln!(output, "call {local} {from}")?;
    }
    writeln!(output, "ready")?;
    output.flush()?;
    for line in stdin().lock().lines() {
        line?;
        writeln!(output, "{}", state(&relay, family))?;
        output.flush()?;
    }
    Ok(())
}

/// What the calls negotiate. More types than the program's table holds leave the stream to a
/// worker.
fn payload_types(service: Service) -> Vec<(u8, u8)> {
    let others = match service.fast {
        true => 0,
        false => PAYLOAD_TYPES as u8,
    };
    (PAYLOAD_TYPE..=PAYLOAD_TYPE + others)
        .map(|number| (number, number))
        .collect()
}

fn leg(
    relay: &mut Relay,
    service: Service,
    number: u16,
    interface: &str,
) -> Result<LegMedia, Failure> {
    let family = service.family;
    let callers = interface == INGRESS;
    let remote = if callers {
        caller(family, number)
    } else {
        callee(family, number)
    };
    let srtp = match (service.kind, callers) {
        (Kind::Protect, false) => Some(SrtpKeys {
            protect: key(0x77),
            unprotect: key(0x33),
        }),
        (Kind::Unprotect, true) => Some(SrtpKeys {
            protect: key(0x77),
            unprotect: callers_key(),
        }),
        _ => None,
    };
    Ok(LegMedia {
        port: relay.reserve(interface, family)?,
        remote: Some(RemoteMedia {
            rtp: remote,
            rtcp: remote,
        }),
        sources: SourcePolicy {
            latching: Latching::Latch,
            allowed: Vec::new(),
        },
        negotiation: 1,
        srtp,
        ice: None,
        rtcp_mux: true,
        dscp: None,
    })
}

/// `calls` that there are, `pinned` ones whose caller is known, packets that the callers' streams
/// had relayed by `xdp` and by `userspace`, and then what was discarded, by reason.
fn state(relay: &Relay, family: Family) -> String {
    let flows = relay.flows();
    let ours = family.ours_to_caller();
    let callers = || flows.iter().filter(|flow| flow.local.ip() == ours);
    let mut calls: Vec<u64> = flows.iter().map(|flow| flow.call.0).collect();
    calls.sort_unstable();
    calls.dedup();
    let snapshot = relay.snapshot();
    let mut text = format!(
        "{} {} {} {}",
        calls.len(),
        callers().filter(|flow| flow.peer.is_some()).count(),
        callers().map(|flow| flow.packets_xdp).sum::<u64>(),
        callers().map(|flow| flow.packets_userspace).sum::<u64>(),
    );
    text.push_str(&format!(
        " {} overflowed the socket",
        snapshot.socket_overflows
    ));
    for (reason, counters) in &snapshot.kernel {
        if matches!(reason.verdict(), Verdict::Drop) && counters.packets > 0 {
            text.push_str(&format!(
                ", {} {} in the kernel",
                counters.packets,
                reason.name()
            ));
        }
    }
    for (discard, counters) in snapshot.workers_discarded {
        if counters.packets > 0 {
            text.push_str(&format!(", {} {discard:?}", counters.packets));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_survives_the_command_line() {
        for fast in [false, true] {
            for kind in Kind::ALL {
                for family in [Family::V4, Family::V6] {
                    let service = Service { fast, kind, family };
                    let read: Service = service.to_argument().parse().expect("a service");
                    assert_eq!(read, service);
                }
            }
        }
        assert!("fast,rtp".parse::<Service>().is_err());
        assert!("fast,video,v4".parse::<Service>().is_err());
    }
}
