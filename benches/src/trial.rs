//! Trials of a relay in userspace: one load, one count; and what is made of them.

use std::time::{Duration, Instant};

use nix::unistd::Pid;
use relay_user::measure::{Latencies, Measure, Sender};

use crate::{
    calls::{Call, Kind, Talkers},
    fast_calls::FastCalls,
    judge,
    ours::Ours,
    peer::Rtpengine,
    topology::{Failure, GENERATOR, GENERATOR_CPU, SINK, Topology, pin},
};

/// The loss that a rate may have and still count as served.
const LOSS: f64 = 0.001;
/// What a relay in userspace is sure to serve, and sure not to, in packets each second.
const LEAST: f64 = 10_000.0;
const MOST: f64 = 1_000_000.0;
/// How many trials a search has: each halves what lies between, as a ratio.
const TRIALS: u32 = 8;

/// Who relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Trunkline's slow path.
    Slow,
    /// Trunkline's fast path, under a load that is paced.
    Fast,
    Rtpengine,
}

impl Who {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Fast => "fast",
            Self::Rtpengine => "rtpengine",
        }
    }
}

enum Relay {
    Ours(Ours),
    Fast(Box<FastCalls>),
    Rtpengine(Rtpengine),
}

impl Relay {
    fn calls(&self) -> &[Call] {
        match self {
            Self::Ours(ours) => &ours.calls,
            Self::Fast(fast) => &fast.calls,
            Self::Rtpengine(rtpengine) => &rtpengine.calls,
        }
    }
}

/// A relay, its talkers and the sink.
pub struct Bench<'a> {
    topology: &'a Topology,
    relay: Relay,
    talkers: Talkers,
    sender: Sender,
    sink: Measure,
}

/// What one load came to.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub offered: f64,
    pub loss: f64,
}

impl<'a> Bench<'a> {
    /// Sets everything up.
    ///
    /// # Errors
    /// When something does not start.
    pub fn new(
        topology: &'a Topology,
        who: Who,
        kind: Kind,
        payload: usize,
        timed: bool,
    ) -> Result<Self, Failure> {
        let relay = match who {
            Who::Slow => Relay::Ours(Ours::start(topology, kind)?),
            Who::Fast => Relay::Fast(Box::new(FastCalls::start(topology)?)),
            Who::Rtpengine => Relay::Rtpengine(Rtpengine::start(topology, kind)?),
        };
        topology.spread(who != Who::Fast)?;
        topology.moderate_sink(who != Who::Fast && !timed)?;
        let talkers = Talkers::new(kind, relay.calls(), payload, timed)?;
        let (sender, sink) = topology.load.enter(|| {
            let mut sink = Measure::load()?;
            sink.expect_time(timed)?;
            sink.attach_sink(SINK)?;
            Ok::<_, Failure>((Sender::open(GENERATOR)?, sink))
        })??;
        if who != Who::Fast {
            // The interface has the thread since the sink was attached.
            topology.spread(true)?;
            topology.place_sink()?;
        }
        let mut bench = Self {
            topology,
            relay,
            talkers,
            sender,
            sink,
        };
        // Sources are learned at leisure.
        bench.load(5_000.0, Duration::from_millis(400))?;
        Ok(bench)
    }

    fn offer(&mut self, rate: f64, duration: Duration) -> Result<(u64, f64), Failure> {
        let (talkers, sender) = (&mut self.talkers, &self.sender);
        let offered = self.topology.load.enter(|| {
            pin(Pid::from_raw(0), GENERATOR_CPU)?;
            talkers.offer(sender, rate, duration)
        })??;
        Ok((offered.packets, offered.rate()))
    }

    /// Waits until nothing arrives any more, and says what has.
    fn drain(&mut self) -> Result<u64, Failure> {
        let begin = Instant::now();
        let mut before = self.sink.sink_counts()?.packets;
        loop {
            std::thread::sleep(Duration::from_millis(60));
            let after = self.sink.sink_counts()?.packets;
            if after == before || begin.elapsed() > Duration::from_secs(5) {
                return Ok(after);
            }
            before = after;
        }
    }

    /// Offers one load and counts it to the last packet; judges the samples.
    ///
    /// # Errors
    /// What is wrong with a sample, or with the machine.
    pub fn load(&mut self, rate: f64, duration: Duration) -> Result<Trial, Failure> {
        self.sink.reset_sink()?;
        let (sent, offered) = self.offer(rate, duration)?;
        let arrived = self.drain()?;
        let samples = self.sink.samples()?;
        if !samples.is_empty() {
            let talkers = &mut self.talkers;
            judge::all(&samples, |arrived| talkers.judge(arrived))?;
        } else if arrived > 20_000 {
            return Err("the sink has no samples to judge".into());
        }
        Ok(Trial {
            offered,
            loss: 1.0 - arrived as f64 / sent as f64,
        })
    }

    /// How long packets took at `rate`.
    ///
    /// # Errors
    /// Those of [`Bench::load`].
    pub fn latencies(&mut self, rate: f64, duration: Duration) -> Result<Latencies, Failure> {
        self.load(rate, Duration::from_millis(200))?;
        self.load(rate, duration)?;
        Ok(self.sink.latencies()?)
    }

    /// The loss, in percent, of 20,000 packets each second from one second after the end of three
    /// seconds of ten times that, or of twice what is `served` if that is more.
    ///
    /// # Errors
    /// Those of [`Bench::load`].
    pub fn recovered(&mut self, served: f64) -> Result<f64, Failure> {
        self.load(20_000.0, Duration::from_secs(1))?;
        self.offer((served * 2.0).max(200_000.0), Duration::from_secs(3))?;
        self.offer(20_000.0, Duration::from_secs(1))?;
        self.sink.reset_sink()?;
        let trial = self.load(20_000.0, Duration::from_secs(2))?;
        Ok(trial.loss.max(0.0) * 100.0)
    }
}

/// The highest rate that loses less than 0.1%.
///
/// # Errors
/// When a relay does not start or relays wrongly.
pub fn highest_rate(
    topology: &Topology,
    who: Who,
    kind: Kind,
    payload: usize,
    duration: Duration,
) -> Result<f64, Failure> {
    let (mut served, mut refused) = (LEAST, MOST);
    let mut best = 0.0;
    let mut bench = Bench::new(topology, who, kind, payload, false)?;
    for _ in 0..TRIALS {
        let rate = (served * refused).sqrt();
        bench.load(rate.min(20_000.0), Duration::from_millis(100))?;
        let trial = bench.load(rate, duration)?;
        if trial.loss < LOSS {
            // What was really offered counts; a generator that falls behind is found so.
            best = trial.offered.min(rate);
            served = rate;
            if trial.offered < rate * 0.97 {
                eprintln!(
                    "bench: the generator reaches {:.0} of {rate:.0}",
                    trial.offered
                );
                refused = rate;
            }
        } else {
            refused = rate;
            if let Relay::Ours(ours) = &bench.relay {
                eprintln!(
                    "bench: {} of {rate:.0}: lost {:.2}%: {}",
                    who.name(),
                    trial.loss * 100.0,
                    ours.losses()
                );
            }
            // A relay may not be what it was after an overload; the next trial has a fresh one.
            drop(bench);
            bench = Bench::new(topology, who, kind, payload, false)?;
        }
    }
    Ok(best)
}
