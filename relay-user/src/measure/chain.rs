//! The fast path against the bare redirect: the same generator, the same wires, the same sink,
//! one CPU for all of it.

use std::{net::SocketAddr, thread, time::Duration};

use etherparse::PacketBuilder;
use relay_abi::{
    U16, U32,
    flow::{FlowEntry, PayloadTypePair},
    next_hop::NextHop,
};

use super::{
    Addresses as _, Arrived, CALLS, Ends, Failure, GENERATOR_CPU, Generator, Kind, Latencies,
    LoadDescription, Measure, Served, Service, Source, Stamp, Topology, callers_key,
    calls::{Listener, called, rtp},
    expect,
    judge::judge,
    now, pin,
    serving::FIRST_PORT as FIRST_CALLS_PORT,
};
use crate::{
    media::Family,
    offload::{Datapath as _, Offload, OffloadConfig, XdpMode, interface_index},
    slow::{endpoint, flow_key},
    srtp::{Outbound, TRAILER},
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
    #[must_use]
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

fn load(ends: &Ends, family: Family, flows: u32, payload: usize, timed: bool) -> LoadDescription {
    LoadDescription {
        source: Source {
            mac: ends.generator.mac,
            address: SocketAddr::new(family.caller(), CALLER_PORT),
        },
        destination_mac: ends.ingress.mac,
        destination: SocketAddr::new(family.ours_to_caller(), FIRST_PORT),
        flows,
        pairs: PAIRS,
        payload,
        payload_type: 0,
        ssrc: SSRC,
        timed,
    }
}

/// How long no packet arrives when none is under way between two interfaces any more: nothing else
/// tells of that where some are lost.
pub(super) const UNDER_WAY: Duration = Duration::from_millis(50);

/// Sends packets through as fast as one CPU does it, and takes the samples.
fn run(
    measure: &mut Measure,
    topology: &Topology,
    generator: Generator,
    packets: u32,
) -> Result<(Run, Vec<Vec<u8>>), Failure> {
    topology.load.enter(|| {
        pin(0, GENERATOR_CPU)?;
        measure.reset_sink()?;
        let took = measure.generate(generator, packets)?;
        let mut arrived = measure.sink_counts()?.packets;
        while !topology.at_once() {
            thread::sleep(UNDER_WAY);
            let before = std::mem::replace(&mut arrived, measure.sink_counts()?.packets);
            if arrived == before {
                break;
            }
        }
        let run = Run {
            sent: u64::from(packets),
            arrived,
            took,
        };
        Ok((run, measure.samples()?))
    })?
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
        topology.receive_where_sent()?;
        let ends = &topology.ends;
        let load = load(ends, family, flows, payload, timed);
        let measure = topology.load.enter(|| {
            let mut measure = Measure::load()?;
            measure.set_load(&load)?;
            measure.send_by(&ends.generator.name)?;
            measure.attach_sink(&ends.sink.name)?;
            if topology.at_once() {
                measure.keep_generator_ready(Generator::Headers)?;
            }
            Ok::<_, Failure>(measure)
        })??;
        let (limit, offload) = topology.relay.enter(|| match relay {
            Relay::Limit => {
                let mut limit = Measure::load()?;
                limit.send_by(&ends.egress.name)?;
                limit.attach_limit(&ends.ingress.name)?;
                Ok::<_, Failure>((Some(limit), None))
            }
            Relay::Trunkline => Ok((None, Some(trunkline(ends, family, &load)?))),
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
        let (run, samples) = run(&mut self.measure, topology, Generator::Headers, packets)?;
        // The bare redirect rewrites nothing that could be wrong.
        if self.relay == Relay::Trunkline {
            judge(&samples, &topology.ends, |arrived| self.judge(arrived))?;
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
            pin(0, GENERATOR_CPU)?;
            measure.generate(Generator::Headers, RUN)?;
            measure.reset_sink()?;
            let begin = now();
            let mut sent = 0u64;
            loop {
                let elapsed = (now() - begin) as f64 / 1e9;
                if elapsed > duration.as_secs_f64() {
                    break;
                }
                if elapsed * rate >= (sent + u64::from(RUN)) as f64 {
                    measure.generate(Generator::Headers, RUN)?;
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

/// Trunkline's program on the interfaces of the relay's namespace, which the caller is in, with
/// `flows`.
///
/// # Errors
/// What the kernel refused.
fn offload(
    Ends {
        ingress,
        egress,
        sink,
        ..
    }: &Ends,
    count: u32,
    flows: impl Iterator<Item = (SocketAddr, FlowEntry)>,
) -> Result<Offload, Failure> {
    let mut interfaces = vec![ingress.name.clone(), egress.name.clone()];
    interfaces.dedup();
    let mut offload = Offload::load(&OffloadConfig {
        mode: XdpMode::Native,
        forced: true,
        interfaces,
        flows: count,
        next_hops: 4,
        srtp_streams: 0,
        media_ports: FIRST_PORT..=FIRST_PORT + (PAIRS * 2 - 1) as u16,
        workers: 0,
    });
    let mut datapath = offload
        .take_datapath()
        .ok_or_else(|| offload.steps().join("; "))?;
    let index = interface_index(&egress.name).ok_or("the relay has no interface to send by")?;
    datapath.set_device(0, index)?;
    datapath.set_next_hop(
        0,
        &NextHop {
            interface: U32::new(index),
            device: U32::new(0),
            mtu: U16::new(1500),
            source: egress.mac,
            destination: sink.mac,
            resolved: 1,
            ..NextHop::default()
        },
    )?;
    for (local, entry) in flows {
        datapath.install(&flow_key(local), &entry)?;
    }
    Ok(offload)
}

fn trunkline(ends: &Ends, family: Family, load: &LoadDescription) -> Result<Offload, Failure> {
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
    offload(ends, load.flows, flows)
}

/// The calls with SRTP on one leg, through the whole media plane and the XDP program, with
/// generator and sink: one CPU for all of it. The packets are made beforehand, since no generator
/// protects as fast as the program under test; each call sends each of them once and in order, so
/// that no replay window stands in the way. All calls have the same keys, in rows of their own.
pub struct CallChain {
    measure: Measure,
    /// `None`: the bare redirect, under the same load.
    relay: Option<Served>,
    listeners: Vec<Listener>,
    payload: usize,
    sent: u32,
    _limit: Option<Measure>,
}

/// How many packets a call sends before its path is asked for.
const LEARNING: u32 = 4;

impl CallChain {
    /// Sets calls of one kind up, or the bare redirect in their place.
    ///
    /// # Errors
    /// What the kernel refused; that SRTP takes another path than XDP, for one.
    pub fn new(
        topology: &Topology,
        kind: Kind,
        limit: bool,
        payload: usize,
    ) -> Result<Self, Failure> {
        topology.spread(false)?;
        topology.moderate_sink(false)?;
        topology.receive_where_sent()?;
        let (family, ends) = (Family::V4, &topology.ends);
        let load = LoadDescription {
            destination: SocketAddr::new(family.ours_to_caller(), FIRST_CALLS_PORT),
            pairs: u32::from(CALLS),
            ..load(ends, family, u32::from(CALLS), payload, false)
        };
        let packets = prepared(kind, &load)?;
        let measure = topology.load.enter(|| {
            let mut measure = Measure::load()?;
            measure.set_load(&load)?;
            measure.set_prepared(&packets)?;
            measure.send_by(&ends.generator.name)?;
            measure.attach_sink(&ends.sink.name)?;
            measure.keep_generator_ready(Generator::Prepared)?;
            Ok::<_, Failure>(measure)
        })??;
        let mut chain = Self {
            measure,
            relay: None,
            listeners: Vec::new(),
            payload,
            sent: 0,
            _limit: None,
        };
        if limit {
            let limit = topology.relay.enter(|| {
                let mut limit = Measure::load()?;
                limit.send_by(&ends.egress.name)?;
                limit.attach_limit(&ends.ingress.name)?;
                Ok::<_, Failure>(limit)
            })??;
            chain._limit = Some(limit);
            return Ok(chain);
        }
        let service = Service {
            fast: true,
            kind,
            family,
        };
        let mut relay = Served::start(topology, service)?;
        // In the order of the callees' ports, as the judge meets them.
        for call in super::Process::calls(&relay) {
            chain.listeners.push(Listener::new(family, call)?);
        }
        for _ in 0..LEARNING {
            for _ in 0..10 {
                chain.send(topology, u32::from(CALLS) / 10)?;
                // Paced, so that a worker serves what has come before more does.
                thread::sleep(Duration::from_millis(2));
            }
        }
        relay.wait_until_pinned()?;
        chain.relay = Some(relay);
        Ok(chain)
    }

    fn send(&mut self, topology: &Topology, packets: u32) -> Result<Run, Failure> {
        self.sent += packets;
        if self.sent > relay_abi::measure::PREPARED * u32::from(CALLS) {
            return Err("the prepared packets do not suffice".into());
        }
        let (run, samples) = run(&mut self.measure, topology, Generator::Prepared, packets)?;
        if !self.listeners.is_empty() && (!samples.is_empty() || packets > 100_000) {
            let (listeners, payload) = (&mut self.listeners, self.payload);
            judge(&samples, &topology.ends, |arrived| {
                let number = called(arrived.to);
                let listener = listeners.get_mut(usize::from(number));
                let listener = listener.ok_or("nobody listens there")?;
                listener.judge(number, arrived, payload, Stamp::None)
            })?;
        }
        Ok(run)
    }

    /// Sends `packets` packets through as fast as one CPU does it, and judges the samples: SRTP is
    /// authenticated and decrypted.
    ///
    /// # Errors
    /// What the kernel refused, what is wrong with a sample, or that more than 1% did not go by the
    /// XDP program.
    pub fn run(&mut self, topology: &Topology, packets: u32) -> Result<Run, Failure> {
        let before = self.relay.as_mut().map(Served::state).transpose()?;
        let run = self.send(topology, packets)?;
        let after = self.relay.as_mut().map(Served::state).transpose()?;
        if let (Some(before), Some(after)) = (before, after) {
            let xdp = after.xdp - before.xdp;
            if xdp * 100 < u64::from(packets) * 99 {
                return Err(format!(
                    "of {packets} packets {xdp} went by XDP and {} by a worker; lost: {}",
                    after.userspace - before.userspace,
                    after.losses
                )
                .into());
            }
        }
        Ok(run)
    }
}

/// The packets that each flow of `load` sends, as flow 0 sends them: whole frames.
fn prepared(kind: Kind, load: &LoadDescription) -> Result<Vec<Vec<u8>>, Failure> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (load.source.address, load.destination) else {
        return Err("prepared packets are sent over IPv4".into());
    };
    let mut protect = match kind {
        Kind::Unprotect => Some(Outbound::new(&callers_key())?),
        Kind::Rtp | Kind::Protect => None,
    };
    let mut frames = Vec::new();
    for sequence in 0..relay_abi::measure::PREPARED {
        let mut packet = rtp(SSRC, load.payload, Stamp::None);
        let numbers = packet.get_mut(2..8).ok_or("a packet without a header")?;
        numbers[..2].copy_from_slice(&(sequence as u16).to_be_bytes());
        numbers[2..].copy_from_slice(&(sequence * 160).to_be_bytes());
        if let Some(protect) = &mut protect {
            let length = packet.len();
            packet.resize(length + TRAILER, 0);
            let length = protect.protect(&mut packet, length)?;
            packet.truncate(length);
        }
        let builder = PacketBuilder::ethernet2(load.source.mac, load.destination_mac)
            .ipv4(from.ip().octets(), to.ip().octets(), 64)
            .udp(from.port(), to.port());
        let mut frame = Vec::with_capacity(builder.size(packet.len()));
        builder.write(&mut frame, &packet)?;
        frames.push(frame);
    }
    Ok(frames)
}

#[cfg(test)]
mod rooted {
    use super::{super::Place, *};

    /// The packets come back rewritten, which each sample is judged for, by the relay and as they
    /// were by the redirect; what is attached is off again for the next one.
    #[test]
    fn two_interfaces_that_are_there_are_measured_between() {
        let place = Place::new().expect("a namespace");
        let cable = ["link", "add", "near", "type", "veth", "peer", "name", "far"];
        place.run("ip", &cable).expect("a cable");
        for end in ["near", "far"] {
            place.run("ip", &["link", "set", end, "up"]).expect("up");
            let gro = ["-K", end, "gro", "on"];
            place.run("ethtool", &gro).expect("an end that polls");
        }
        let topology = place.enter(|| Topology::between("near", "far"));
        let topology = topology.expect("entered").expect("two ends");
        for relay in [Relay::Limit, Relay::Trunkline, Relay::Limit] {
            let chain = Chain::new(&topology, relay, Family::V4, 8, 160, false);
            let run = chain.expect("a chain").run(&topology, 1 << 14);
            let run = run.expect("packets that came as they should");
            assert!(run.arrived > 0 && run.arrived <= run.sent, "{run:?}");
        }
        let none = place.enter(|| Topology::between("near", "elsewhere").err());
        let why = none.expect("entered").expect("no such interface");
        assert!(why.to_string().contains("elsewhere"), "{why}");
    }
}
