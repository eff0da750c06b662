//! The calls of the slow path's load, on the fast path.

use std::net::SocketAddr;

use relay_abi::{
    U16, U32,
    flow::{FlowEntry, PayloadTypePair},
};
use relay_user::{offload::Offload, slow::endpoint};

use crate::{
    calls::{CALLS, Call, PAYLOAD_TYPE, SSRC, callee, caller},
    fast,
    topology::{Failure, Family, Topology},
};

const FIRST_PORT: u16 = 20_000;

/// Trunkline's program with the calls, RTP to RTP.
pub struct FastCalls {
    pub calls: Vec<Call>,
    _offload: Offload,
}

impl FastCalls {
    /// Loads it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn start(topology: &Topology) -> Result<Self, Failure> {
        let calls: Vec<Call> = (0..CALLS).map(call).collect();
        let flows = calls.iter().enumerate().map(|(number, call)| {
            let number = number as u16;
            let mut payload_types = [PayloadTypePair::default(); 8];
            payload_types[0] = PayloadTypePair {
                incoming: PAYLOAD_TYPE,
                outgoing: PAYLOAD_TYPE,
            };
            let entry = FlowEntry {
                peer: endpoint(caller(number)),
                from: endpoint(call.from),
                to: endpoint(callee(number)),
                flags: U16::new(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN),
                ssrc_in: U32::new(SSRC + u32::from(number)),
                ssrc_out: U32::new(0x3000_0000 + u32::from(number)),
                timestamp_offset: U32::new(1_000),
                sequence_offset: U16::new(100),
                counters: U32::new(u32::from(number)),
                generation: U32::new(1),
                clock_rate: U32::new(8_000),
                payload_type_count: 1,
                payload_types,
                ..FlowEntry::default()
            };
            (call.local, entry)
        });
        let offload = topology
            .relay
            .enter(|| fast::offload(u32::from(CALLS), flows))??;
        Ok(Self {
            calls,
            _offload: offload,
        })
    }
}

fn call(number: u16) -> Call {
    let port = FIRST_PORT + 2 * number;
    Call {
        local: SocketAddr::new(Family::V4.ours_to_caller(), port),
        from: SocketAddr::new(Family::V4.ours_to_callee(), port),
        protect: None,
    }
}
