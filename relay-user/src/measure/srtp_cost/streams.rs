//! Many streams by turns, as a relay of many calls has them.

use std::net::SocketAddr;

use relay_abi::flow::FlowEntry;

use super::{
    LOCAL, MACS, PAYLOAD, PEER, ROUNDS, SrtpCost, StreamCost, XDP_DROP, XDP_TX, entry, flow_key,
    frame, programs, random_key, relay_program, rows, rtp, theirs,
};
use crate::{
    measure::{Failure, LoadDescription, Measure, Source},
    offload::{Datapath as _, XdpDatapath},
    srtp::{Inbound, Outbound, StreamKey},
};

const STREAMS: u16 = SrtpCost::STREAMS;

/// The streams of one way: their flows, and their ports, every second one.
struct Streams {
    way: u16,
    first_flow: u32,
    first: ([u8; 4], u16),
}

impl Streams {
    fn install(&self, datapath: &mut XdpDatapath, key: &StreamKey) -> Result<(), Failure> {
        for stream in 0..STREAMS {
            let flow = self.first_flow + u32::from(stream);
            let local = (self.first.0, self.first.1 + 2 * stream);
            for row in rows(flow) {
                datapath.write_key(row, key)?;
            }
            datapath.install(&flow_key(local), &entry(local, self.way, flow, rows(flow)))?;
        }
        Ok(())
    }

    /// A packet of each: where it begins.
    fn load(&self) -> LoadDescription {
        LoadDescription {
            source: Source {
                mac: MACS[0],
                address: SocketAddr::from(PEER),
            },
            destination_mac: MACS[1],
            destination: SocketAddr::from(self.first),
            flows: STREAMS.into(),
            pairs: STREAMS.into(),
            payload: PAYLOAD,
            payload_type: 0,
            ssrc: 0,
            timed: false,
        }
    }

    /// Of each stream a packet has to be relayed in each of so many runs.
    fn expect_relayed(&self, datapath: &XdpDatapath, runs: usize) -> Result<(), Failure> {
        for stream in 0..u32::from(STREAMS) {
            let relayed = datapath.read(self.first_flow + stream)?.packets;
            if relayed < runs as u64 {
                let text = format!("of {runs} packets of stream {stream} {relayed} were relayed");
                return Err(text.into());
            }
        }
        Ok(())
    }
}

/// Measures; the streams' keys are the same, so that one packet serves all.
pub(super) fn cost() -> Result<StreamCost, Failure> {
    let (offload, mut datapath) = programs(2 * u32::from(STREAMS), 4 * u32::from(STREAMS))?;
    let program = relay_program(&offload)?;
    let key = random_key();
    let prepared = StreamKey::new(&key).ok_or("no such key")?;
    let ways = [
        Streams {
            way: FlowEntry::PROTECT,
            first_flow: 0,
            first: LOCAL,
        },
        Streams {
            way: FlowEntry::UNPROTECT,
            first_flow: STREAMS.into(),
            first: (LOCAL.0, LOCAL.1 + 2 * STREAMS),
        },
    ];
    for streams in &ways {
        streams.install(&mut datapath, &prepared)?;
    }
    let mut contexts = Vec::new();
    for _ in 0..STREAMS {
        contexts.push((Outbound::new(&key)?, Inbound::new(&key)?));
    }
    let mut peer = Outbound::new(&key)?;
    let mut measure = Measure::load()?;
    let mut times = [Vec::new(), Vec::new()];
    let mut libsrtp = [Vec::new(), Vec::new()];
    let mut sequence = 0;
    while times.iter().any(|times| times.len() < usize::from(ROUNDS)) {
        sequence += 1;
        if sequence > 4 * ROUNDS {
            return Err("signals broke off too many runs".into());
        }
        for (times, streams) in times.iter_mut().zip(&ways) {
            measure.set_load(&streams.load())?;
            measure.set_prepared(&[frame(&mut peer, streams.way, streams.first, sequence)?])?;
            let without = measure.feed(None, STREAMS, XDP_DROP)?;
            let with = measure.feed(Some(program), STREAMS, XDP_TX)?;
            // What a run that was broken off has given cannot be given again.
            if let Some((with, without)) = with.zip(without) {
                times.push(with.saturating_sub(without));
            }
        }
        let packets = (0..STREAMS).map(|_| rtp(sequence)).collect();
        for (times, time) in libsrtp.iter_mut().zip(theirs(&mut contexts, packets)?) {
            times.push(time);
        }
    }
    for (times, streams) in times.iter().zip(&ways) {
        streams.expect_relayed(&datapath, times.len())?;
    }
    Ok(StreamCost::of(times, libsrtp))
}
