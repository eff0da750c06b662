//! `trunkline bench`: what this machine relays, measured between network namespaces that it makes
//! and takes away again, or between two interfaces.

use std::time::Duration;

use clap::{Args, ValueEnum};
use relay_user::{
    measure::{
        Bench, CallChain, Chain, Failure, Kind, Process, Relay, Scene, Search, Served, Service,
        Stamp, Topology, costs,
    },
    media::Family,
};

use super::print;

/// What to measure.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// These parts alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// How many flows the fast path has, for each of its lines.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000, 100_000])]
    flows: Vec<u32>,
    /// Octets of RTP payload in each packet; 160 is 20 ms of G.711.
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u16).range(16..=440))]
    payload: u16,
    /// Rounds, of which each line is the best.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Measure the fast path between two interfaces that a cable joins: packets leave by LOAD, and
    /// the relay on RELAY sends them back. Whatever else they carry is lost meanwhile.
    #[arg(long, value_name = "LOAD,RELAY", value_parser = pair, conflicts_with = "only")]
    between: Option<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (load, relay) = text
        .split_once(',')
        .ok_or("two interfaces, as in eth0,eth1")?;
    Ok((load.to_owned(), relay.to_owned()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A bare redirect by XDP, and the fast path beside it: one CPU for generator, relay and sink.
    Fast,
    /// The same with SRTP on one leg.
    Srtp,
    /// One worker in userspace on a CPU of its own, under 0.1% loss.
    Slow,
    /// Nanoseconds a packet, by test run, and of libsrtp.
    Cost,
}

/// Packets of a round.
const PACKETS: u32 = 1 << 20;

/// Measures, and prints a line for each quantity.
pub(super) fn bench(arguments: &Arguments) -> Result<(), String> {
    measure(arguments).map_err(|error| {
        format!("{error}\nthe measurement needs root, BPF, and CPUs 0 to 2 of the machine")
    })
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    if let Some((load, relay)) = &arguments.between {
        return fast(arguments, &Topology::between(load, relay)?);
    }
    let topology = Topology::new()?;
    let asked = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let payload = usize::from(arguments.payload);
    if asked(Part::Fast) {
        fast(arguments, &topology)?;
    }
    if asked(Part::Srtp) {
        for kind in [Kind::Protect, Kind::Unprotect] {
            let rate = best(arguments, || {
                let mut chain = CallChain::new(&topology, kind, false, payload)?;
                chain.run(&topology, PACKETS / 16)?;
                Ok(chain.run(&topology, PACKETS)?.rate())
            });
            let name = format!("fast path, 500 calls, {}", kind.name());
            match rate {
                Ok(rate) => tell(&name, rate, "packets/s")?,
                Err(why) => print(&format!("{name}: not measured: {why}\n"))?,
            }
        }
    }
    if asked(Part::Slow) {
        for kind in Kind::ALL {
            let rate = slow(&topology, kind, payload)?;
            let name = format!("slow path, 500 calls, {}", kind.name());
            tell(&name, rate, "packets/s")?;
        }
    }
    if asked(Part::Cost) {
        for cost in costs::relay()?.into_iter().chain(costs::srtp()?) {
            tell(&cost.name, cost.value, cost.unit)?;
        }
    }
    Ok(())
}

/// The bare redirect and the fast path, for each number of flows.
fn fast(arguments: &Arguments, topology: &Topology) -> Result<(), Failure> {
    let payload = usize::from(arguments.payload);
    for flows in &arguments.flows {
        let rate = |relay| {
            best(arguments, || {
                let mut chain = Chain::new(topology, relay, Family::V4, *flows, payload, false)?;
                chain.run(topology, PACKETS / 8)?;
                Ok(chain.run(topology, PACKETS)?.rate())
            })
        };
        let (limit, fast) = (rate(Relay::Limit)?, rate(Relay::Trunkline)?);
        tell(&format!("bare redirect, {flows} flows"), limit, "packets/s")?;
        tell(&format!("fast path, {flows} flows"), fast, "packets/s")?;
    }
    Ok(())
}

/// The best of all rounds.
fn best(
    arguments: &Arguments,
    mut run: impl FnMut() -> Result<f64, Failure>,
) -> Result<f64, Failure> {
    (0..arguments.rounds).try_fold(0.0, |best, _| run().map(|rate| f64::max(best, rate)))
}

/// The highest rate of one worker.
fn slow(topology: &Topology, kind: Kind, payload: usize) -> Result<f64, Failure> {
    let family = Family::V4;
    let service = Service {
        fast: false,
        kind,
        family,
    };
    let start = || {
        let served = Served::start(topology, service)?;
        Ok(Box::new(served) as Box<dyn Process>)
    };
    let scene = Scene {
        fast: false,
        kind,
        family,
        payload,
        stamp: Stamp::None,
    };
    let search = Search {
        from: 200_000.0,
        step: 1.4,
        near: 1.04,
        duration: Duration::from_millis(700),
    };
    let mut bench = Bench::new(topology, start()?, scene)?;
    search.highest_rate(&mut bench, start)
}

fn tell(name: &str, value: f64, unit: &str) -> Result<(), Failure> {
    Ok(print(&format!("{name}: {value:.0} {unit}\n"))?)
}
