//! Trunkline's slow path: one worker on a CPU of its own.

use nix::unistd::Pid;
use relay_abi::{
    U16, U32,
    flow::{FlowEntry, PayloadTypePair},
};
use relay_user::{
    offload::{Offload, OffloadConfig, Steering, XdpMode},
    slow::{
        RtcpRoute, SlowEvents, SlowFlow, Sources, Steer, Workers, WorkersConfig, endpoint, flow_key,
    },
};
use std::net::SocketAddr;

use crate::{
    calls::{CALLS, Call, Kind, callee, caller, callers_key, key},
    topology::{Failure, Family, RELAY_CPU, Topology, pin},
};

const FIRST_PORT: u16 = 20_000;

/// A running worker with its calls.
pub struct Ours {
    pub calls: Vec<Call>,
    workers: Workers,
    _steering: Steering,
}

impl Ours {
    /// Starts one and installs the calls.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn start(topology: &Topology, kind: Kind) -> Result<Self, Failure> {
        topology.relay.enter(|| {
            // The worker's thread inherits it.
            pin(Pid::from_raw(0), RELAY_CPU)?;
            let mut offload = Offload::load(&OffloadConfig {
                mode: XdpMode::Off,
                forced: true,
                interfaces: Vec::new(),
                flows: 16,
                next_hops: 16,
                srtp_streams: 0,
                media_ports: FIRST_PORT..=59_999,
                workers: 1,
            });
            let mut steering = offload
                .take_steering()
                .ok_or_else(|| offload.steps().join("; "))?;
            let workers = Workers::start(
                WorkersConfig {
                    workers: 1,
                    addresses: vec![Family::V4.ours_to_caller(), Family::V4.ours_to_callee()],
                    flows: usize::from(CALLS),
                    last_output: None,
                    busy_poll: false,
                },
                Some(&mut steering as &mut dyn Steer),
                SlowEvents::new(usize::from(CALLS)),
            )?;
            let calls = (0..CALLS)
                .map(|number| install(&workers, kind, number))
                .collect::<Result<_, _>>()?;
            Ok(Self {
                calls,
                workers,
                _steering: steering,
            })
        })?
    }

    /// What the worker did not send on, and why, since it was started.
    pub fn losses(&self) -> String {
        let snapshot = self.workers.snapshot();
        let mut text = format!("{} overflowed the socket", snapshot.socket_overflows);
        for (discard, counters) in snapshot.discarded {
            if counters.packets > 0 {
                text.push_str(&format!(", {} {discard:?}", counters.packets));
            }
        }
        text
    }
}

fn install(workers: &Workers, kind: Kind, number: u16) -> Result<Call, Failure> {
    let port = FIRST_PORT + 2 * number;
    let local = SocketAddr::new(Family::V4.ours_to_caller(), port);
    let from = SocketAddr::new(Family::V4.ours_to_callee(), port);
    let protect = (kind == Kind::Protect).then(|| key(0x77));
    let mut payload_types = [PayloadTypePair::default(); 8];
    payload_types[0] = PayloadTypePair {
        incoming: 8,
        outgoing: 8,
    };
    workers.install(
        flow_key(local),
        SlowFlow {
            entry: FlowEntry {
                from: endpoint(from),
                to: endpoint(callee(number)),
                ssrc_out: U32::new(0x3000_0000 + u32::from(number)),
                timestamp_offset: U32::new(1_000),
                sequence_offset: U16::new(100),
                clock_rate: U32::new(8_000),
                payload_type_count: 1,
                payload_types,
                ..FlowEntry::default()
            },
            payload_types: Vec::new(),
            sources: Sources {
                rtp: Some(caller(number)),
                ..Sources::default()
            },
            unprotect: (kind == Kind::Unprotect).then(callers_key),
            protect: protect.clone(),
            unprotect_row: None,
            protect_row: None,
            rtcp: RtcpRoute::default(),
            opposite: None,
        },
    )?;
    Ok(Call {
        local,
        from,
        protect,
    })
}
