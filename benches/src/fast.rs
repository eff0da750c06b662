//! The fast path against the bare redirect: the same generator, the same wires, the same sink,
//! one CPU for all of it.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use relay_abi::{
    U16, U32,
    flow::{Address, Endpoint, FlowEntry, FlowKey, PayloadTypePair},
    next_hop::NextHop,
};
use relay_user::{
    measure::{LoadDescription, Measure, Source},
    offload::{Datapath as _, Offload, OffloadConfig, XdpMode},
};

use crate::topology::{
    EGRESS, EGRESS_MAC, GENERATOR, GENERATOR_MAC, INGRESS, INGRESS_MAC, SINK, SINK_MAC, Topology,
};

/// Flows to one address of ours: the pairs of the media port range.
const PAIRS: u32 = 20_000;
const FIRST_PORT: u16 = 20_000;
const SSRC: u32 = 0x1000_0000;

/// What stands between the generator and the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// The bare redirect.
    Limit,
    /// Trunkline's XDP program.
    Trunkline,
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub sent: u64,
    pub arrived: u64,
    pub took: Duration,
}

impl Run {
    /// Packets that arrived in each second.
    pub fn rate(&self) -> f64 {
        self.arrived as f64 / self.took.as_secs_f64()
    }
}

/// A relay set up for a number of flows, with generator and sink: ready to run any number of times.
pub struct Chain {
    measure: Measure,
    // Dropping these takes the relay away.
    _limit: Option<Measure>,
    _offload: Option<Offload>,
}

fn source() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40_000)
}

fn load(flows: u32, timed: bool) -> LoadDescription {
    LoadDescription {
        source: Source {
            mac: GENERATOR_MAC,
            address: source(),
        },
        destination_mac: INGRESS_MAC,
        destination: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), FIRST_PORT),
        flows,
        pairs: PAIRS,
        payload: 160,
        payload_type: 0,
        ssrc: SSRC,
        timed,
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let octets = match address.ip() {
        IpAddr::V4(ip) => Address::v4(ip.octets()),
        IpAddr::V6(ip) => Address(ip.octets()),
    };
    Endpoint {
        address: octets,
        port: U16::new(address.port()),
    }
}

impl Chain {
    /// Sets a relay up.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(
        topology: &Topology,
        relay: Relay,
        flows: u32,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let load = load(flows, false);
        let measure = topology.load.enter(|| {
            let mut measure = Measure::load()?;
            measure.set_load(&load)?;
            measure.send_by(GENERATOR)?;
            measure.attach_sink(SINK)?;
            Ok::<_, Box<dyn Error + Send + Sync>>(measure)
        })??;
        let (limit, offload) = topology.relay.enter(|| match relay {
            Relay::Limit => {
                let mut limit = Measure::load()?;
                limit.send_by(EGRESS)?;
                limit.attach_limit(INGRESS)?;
                Ok::<_, Box<dyn Error + Send + Sync>>((Some(limit), None))
            }
            Relay::Trunkline => Ok((None, Some(trunkline(&load)?))),
        })??;
        Ok(Self {
            measure,
            _limit: limit,
            _offload: offload,
        })
    }

    /// Sends `packets` packets through.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn run(
        &mut self,
        topology: &Topology,
        packets: u32,
    ) -> Result<Run, Box<dyn Error + Send + Sync>> {
        let measure = &mut self.measure;
        topology.load.enter(|| {
            let before = measure.sink_counts()?;
            let took = measure.generate(packets)?;
            let after = measure.sink_counts()?;
            Ok(Run {
                sent: u64::from(packets),
                arrived: after.packets - before.packets,
                took,
            })
        })?
    }
}

fn trunkline(load: &LoadDescription) -> Result<Offload, Box<dyn Error + Send + Sync>> {
    let mut offload = Offload::load(&OffloadConfig {
        mode: XdpMode::Native,
        forced: true,
        interfaces: vec![INGRESS.to_owned(), EGRESS.to_owned()],
        flows: load.flows,
        next_hops: 4,
        media_ports: FIRST_PORT..=FIRST_PORT + (PAIRS * 2 - 1) as u16,
        workers: 0,
    });
    let mut datapath = offload
        .take_datapath()
        .ok_or_else(|| offload.steps().join("; "))?;
    let egress = nix::net::if_::if_nametoindex(EGRESS)?;
    datapath.set_device(0, egress)?;
    datapath.set_next_hop(
        0,
        &NextHop {
            interface: U32::new(egress),
            device: U32::new(0),
            mtu: U16::new(1500),
            source: EGRESS_MAC,
            destination: SINK_MAC,
            resolved: 1,
            ..NextHop::default()
        },
    )?;
    let mut payload_types = [PayloadTypePair::default(); 8];
    payload_types[0] = PayloadTypePair {
        incoming: 0,
        outgoing: 8,
    };
    for flow in 0..load.flows {
        let local = load.endpoint(flow);
        let entry = FlowEntry {
            peer: endpoint(source()),
            from: endpoint(SocketAddr::new(
                IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
                local.port(),
            )),
            to: endpoint(SocketAddr::new(
                IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2)),
                local.port() + 1,
            )),
            flags: U16::new(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN),
            ssrc_in: U32::new(SSRC + flow),
            ssrc_out: U32::new(!(SSRC + flow)),
            timestamp_offset: U32::new(0x1234_5678),
            sequence_offset: U16::new(0x4321),
            counters: U32::new(flow),
            generation: U32::new(1),
            clock_rate: U32::new(8_000),
            payload_type_count: 1,
            payload_types,
            ..FlowEntry::default()
        };
        datapath.install(
            &FlowKey {
                local: endpoint(local),
                zero: U16::ZERO,
            },
            &entry,
        )?;
    }
    Ok(offload)
}
