//! The fast path against the bare redirect: the same generator, the same wires, the same sink,
//! one CPU for all of it.

use std::{net::SocketAddr, time::Duration};

use nix::unistd::Pid;
use relay_abi::{
    U16, U32,
    flow::{FlowEntry, PayloadTypePair},
    next_hop::NextHop,
};
use relay_user::{
    measure::{self, Latencies, LoadDescription, Measure, Source},
    offload::{Datapath as _, Offload, OffloadConfig, XdpMode},
    slow::{endpoint, flow_key},
};

use crate::{
    judge::{self, Arrived, expect},
    topology::{
        EGRESS, EGRESS_MAC, Failure, Family, GENERATOR, GENERATOR_CPU, GENERATOR_MAC, INGRESS,
        INGRESS_MAC, SINK, SINK_MAC, Topology, pin,
    },
};

/// Flows to one address of ours: the pairs of the media port range.
const PAIRS: u32 = 20_000;
const FIRST_PORT: u16 = 20_000;
const CALLER_PORT: u16 = 40_000;
const SSRC: u32 = 0x1000_0000;
const TIMESTAMP_OFFSET: u32 = 0x1234_5678;
const SEQUENCE_OFFSET: u16 = 0x4321;

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
    load: LoadDescription,
    relay: Relay,
    family: Family,
    // Dropping these takes the relay away.
    _limit: Option<Measure>,
    _offload: Option<Offload>,
}

fn load(family: Family, flows: u32, payload: usize, timed: bool) -> LoadDescription {
    LoadDescription {
        source: Source {
            mac: GENERATOR_MAC,
            address: SocketAddr::new(family.caller(), CALLER_PORT),
        },
        destination_mac: INGRESS_MAC,
        destination: SocketAddr::new(family.ours_to_caller(), FIRST_PORT),
        flows,
        pairs: PAIRS,
        payload,
        payload_type: 0,
        ssrc: SSRC,
        timed,
    }
}

impl Chain {
    /// Sets a relay up for `flows` flows of packets with `payload` octets of RTP payload. `timed`
    /// ones carry the time of sending.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(
        topology: &Topology,
        relay: Relay,
        family: Family,
        flows: u32,
        payload: usize,
        timed: bool,
    ) -> Result<Self, Failure> {
        topology.spread(false)?;
        topology.moderate_sink(false)?;
        let load = load(family, flows, payload, timed);
        let measure = topology.load.enter(|| {
            let mut measure = Measure::load()?;
            measure.set_load(&load)?;
            measure.send_by(GENERATOR)?;
            measure.attach_sink(SINK)?;
            measure.keep_generator_ready()?;
            Ok::<_, Failure>(measure)
        })??;
        let (limit, offload) = topology.relay.enter(|| match relay {
            Relay::Limit => {
                let mut limit = Measure::load()?;
                limit.send_by(EGRESS)?;
                limit.attach_limit(INGRESS)?;
                Ok::<_, Failure>((Some(limit), None))
            }
            Relay::Trunkline => Ok((None, Some(trunkline(family, &load)?))),
        })??;
        Ok(Self {
            measure,
            load,
            relay,
            family,
            _limit: limit,
            _offload: offload,
        })
    }

    /// Sends `packets` packets through as fast as one CPU does it, and judges the samples.
    ///
    /// # Errors
    /// What the kernel refused, or what is wrong with a sample.
    pub fn run(&mut self, topology: &Topology, packets: u32) -> Result<Run, Failure> {
        let measure = &mut self.measure;
        let (run, samples) = topology.load.enter(|| {
            pin(Pid::from_raw(0), GENERATOR_CPU)?;
            measure.reset_sink()?;
            let took = measure.generate(packets)?;
            let arrived = measure.sink_counts()?.packets;
            let run = Run {
                sent: u64::from(packets),
                arrived,
                took,
            };
            Ok::<_, Failure>((run, measure.samples()?))
        })??;
        // The bare redirect rewrites nothing that could be wrong.
        if self.relay == Relay::Trunkline {
            judge::all(&samples, |arrived| self.judge(arrived))?;
        }
        Ok(run)
    }

    /// Sends `rate` packets each second for `duration`, in runs of a few, and says how long they
    /// took from the generator to the sink.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn latencies(
        &mut self,
        topology: &Topology,
        rate: f64,
        duration: Duration,
    ) -> Result<Latencies, Failure> {
        /// Packets that come at once, as a NIC hands them on.
        const RUN: u32 = 16;
        let measure = &mut self.measure;
        topology.load.enter(|| {
            pin(Pid::from_raw(0), GENERATOR_CPU)?;
            measure.generate(RUN)?;
            measure.reset_sink()?;
            let begin = measure::now();
            let mut sent = 0u64;
            loop {
                let elapsed = (measure::now() - begin) as f64 / 1e9;
                if elapsed > duration.as_secs_f64() {
                    break;
                }
                if elapsed * rate >= (sent + u64::from(RUN)) as f64 {
                    measure.generate(RUN)?;
                    sent += u64::from(RUN);
                }
            }
            Ok(measure.latencies()?)
        })?
    }

    fn judge(&self, arrived: &Arrived<'_>) -> Result<(), Failure> {
        let family = self.family;
        let flow = (!arrived.ssrc).wrapping_sub(SSRC);
        if flow >= self.load.flows {
            return Err(format!("its SSRC {:#x} is of no flow", arrived.ssrc).into());
        }
        let port = self.load.endpoint(flow).port();
        let from = SocketAddr::new(family.ours_to_callee(), port);
        let to = SocketAddr::new(family.callee(), port + 1);
        expect("source", arrived.from, from)?;
        expect("destination", arrived.to, to)?;
        expect("hop limit", arrived.hop_limit, 63)?;
        expect("payload type", arrived.payload_type, 8)?;
        let sequence = arrived.sequence.wrapping_sub(SEQUENCE_OFFSET);
        let timestamp = arrived.timestamp.wrapping_sub(TIMESTAMP_OFFSET);
        expect("timestamp", timestamp % 160, 0)?;
        expect("sequence number", sequence, (timestamp / 160) as u16)?;
        let sent = self.load.frame();
        let sent = sent.get(sent.len() - self.load.payload + 8..);
        let came = arrived.packet.get(12 + 8..);
        if sent != came {
            return Err("its payload is not what was sent".into());
        }
        Ok(())
    }
}

/// Trunkline's program on both interfaces of the relay's namespace, which the caller is in, with
/// `flows`.
///
/// # Errors
/// What the kernel refused.
pub fn offload(
    count: u32,
    flows: impl Iterator<Item = (SocketAddr, FlowEntry)>,
) -> Result<Offload, Failure> {
    let mut offload = Offload::load(&OffloadConfig {
        mode: XdpMode::Native,
        forced: true,
        interfaces: vec![INGRESS.to_owned(), EGRESS.to_owned()],
        flows: count,
        next_hops: 4,
        srtp_streams: 0,
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
    for (local, entry) in flows {
        datapath.install(&flow_key(local), &entry)?;
    }
    Ok(offload)
}

fn trunkline(family: Family, load: &LoadDescription) -> Result<Offload, Failure> {
    let mut payload_types = [PayloadTypePair::default(); 8];
    payload_types[0] = PayloadTypePair {
        incoming: 0,
        outgoing: 8,
    };
    let flows = (0..load.flows).map(|flow| {
        let local = load.endpoint(flow);
        let from = SocketAddr::new(family.ours_to_callee(), local.port());
        let to = SocketAddr::new(family.callee(), local.port() + 1);
        let entry = FlowEntry {
            peer: endpoint(load.source.address),
            from: endpoint(from),
            to: endpoint(to),
            flags: U16::new(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN),
            ssrc_in: U32::new(SSRC + flow),
            ssrc_out: U32::new(!(SSRC + flow)),
            timestamp_offset: U32::new(TIMESTAMP_OFFSET),
            sequence_offset: U16::new(SEQUENCE_OFFSET),
            counters: U32::new(flow),
            generation: U32::new(1),
            clock_rate: U32::new(8_000),
            payload_type_count: 1,
            payload_types,
            ..FlowEntry::default()
        };
        (local, entry)
    });
    offload(load.flows, flows)
}
