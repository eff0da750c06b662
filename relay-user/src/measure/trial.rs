//! Trials of a relay that is a process: one load, one count; and what is made of them.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Awake, Failure, GENERATOR, GENERATOR_CPU, Kind, Latencies, Measure, Process, RELAY_CPU, SINK,
    SINK_CPU, Sender, Stamp, Talkers, Topology, chain::UNDER_WAY, judge, pin,
};
use crate::media::Family;

/// The loss that a rate may have and still count as served.
const LOSS: f64 = 0.001;
/// Where a search gives up, in packets each second.
const LEAST: f64 = 1_000.0;
const MOST: f64 = 4_000_000.0;
/// A loss that is believed at once: nothing else on the machine takes so much.
const FLOOD: f64 = 0.1;

/// A generator that offers less of a rate than this is at its end.
const BEHIND: f64 = 0.97;

/// The load of the calls, at which nothing is lost, in packets each second.
const CALM: f64 = 20_000.0;
/// How long an overload lasts, and how long the relay is stopped.
pub const TROUBLE: Duration = Duration::from_secs(3);
/// How old, in nanoseconds, a packet may be when it is sent on.
const STALE: u64 = 200_000_000;

/// Looks at a condition until it holds; false when it does not within `limit`.
pub(super) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    /// How often. Nobody tells when what others do is done.
    const LOOK: Duration = Duration::from_millis(5);
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() >= limit {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

/// What a load is of, and where it is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// By the XDP program: the whole chain is then one CPU's.
    pub fast: bool,
    pub kind: Kind,
    pub family: Family,
    /// Octets of RTP payload.
    pub payload: usize,
    pub stamp: Stamp,
}

/// A relay, its talkers and the sink.
pub struct Bench<'a> {
    topology: &'a Topology,
    scene: Scene,
    relay: Option<Box<dyn Process + 'a>>,
    talkers: Talkers,
    sender: Sender,
    sink: Measure,
    _awake: Option<Awake>,
}

/// What one load came to.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub offered: f64,
    pub loss: f64,
}

/// How a relay came out of trouble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovery {
    /// The loss, in percent, from one second after the trouble's end.
    pub loss_percent: f64,
    /// Packets more than 200 ms old that were sent on, from the trouble's beginning.
    pub stale: u64,
    /// By how much resident memory has changed, in percent.
    pub resident_percent: f64,
    /// Calls that are gone.
    pub calls_gone: usize,
}

impl<'a> Bench<'a> {
    /// Sets everything up around a relay that is there already.
    ///
    /// # Errors
    /// When something does not start.
    pub fn new(
        topology: &'a Topology,
        relay: Box<dyn Process + 'a>,
        scene: Scene,
    ) -> Result<Self, Failure> {
        topology.spread(!scene.fast)?;
        topology.moderate_sink(!scene.fast && scene.stamp == Stamp::None)?;
        topology.receive_where_sent()?;
        let (sender, sink) = topology.load.enter(|| {
            let mut sink = Measure::load()?;
            sink.expect_time(scene.stamp.offset())?;
            sink.attach_sink(SINK)?;
            Ok::<_, Failure>((Sender::open(GENERATOR)?, sink))
        })??;
        if !scene.fast {
            // The interface has the thread since the sink was attached.
            topology.spread(true)?;
            topology.place_sink()?;
            match relay.receives_alone() {
                true => topology.receive_on_relays_cpu(&sender)?,
                false => topology.steer_to_relays_cpu()?,
            }
        }
        let awake = match scene.fast {
            true => None,
            false => Some(Awake::keep(&[RELAY_CPU, SINK_CPU])?),
        };
        let mut bench = Self {
            topology,
            scene,
            talkers: talkers(&scene, relay.as_ref())?,
            relay: Some(relay),
            sender,
            sink,
            _awake: awake,
        };
        bench.learn()?;
        Ok(bench)
    }

    /// Lets the relay learn the callers' sources at leisure: four packets of each.
    fn learn(&mut self) -> Result<(), Failure> {
        self.load(10_000.0, Duration::from_millis(200)).map(|_| ())
    }

    /// Ends the relay and takes a fresh one in its place.
    ///
    /// # Errors
    /// When it does not start.
    pub fn replace(
        &mut self,
        start: impl FnOnce() -> Result<Box<dyn Process + 'a>, Failure>,
    ) -> Result<(), Failure> {
        drop(self.relay.take());
        let relay = start()?;
        self.talkers = talkers(&self.scene, relay.as_ref())?;
        self.relay = Some(relay);
        self.learn()
    }

    /// The relay.
    fn relay(&mut self) -> Result<&mut (dyn Process + 'a), Failure> {
        let relay = self.relay.as_mut();
        Ok(relay.ok_or("no relay is there any more")?.as_mut())
    }

    fn offer(&mut self, rate: f64, duration: Duration) -> Result<(u64, f64), Failure> {
        let (talkers, sender) = (&mut self.talkers, &self.sender);
        let offered = self.topology.load.enter(|| {
            pin(0, GENERATOR_CPU)?;
            talkers.offer(sender, rate, duration)
        })??;
        Ok((offered.packets, offered.rate()))
    }

    /// Waits until nothing arrives any more, and says what has.
    fn drain(&mut self) -> Result<u64, Failure> {
        let begin = Instant::now();
        let mut before = self.sink.sink_counts()?.packets;
        loop {
            thread::sleep(UNDER_WAY);
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
        self.judge(arrived)?;
        Ok(Trial {
            offered,
            loss: 1.0 - arrived as f64 / sent as f64,
        })
    }

    fn judge(&mut self, arrived: u64) -> Result<(), Failure> {
        let samples = self.sink.samples()?;
        if samples.is_empty() && arrived <= 20_000 {
            return Ok(());
        }
        let talkers = &mut self.talkers;
        let ends = &self.topology.ends;
        judge(&samples, ends, |arrived| talkers.judge(arrived))
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

    /// How it comes out of three seconds of ten times its load, or of twice what is `served` if
    /// that is more.
    ///
    /// # Errors
    /// Those of [`Bench::load`].
    pub fn overloaded(&mut self, served: f64) -> Result<Recovery, Failure> {
        self.recovered(|bench| {
            bench.offer((served * 2.0).max(CALM * 10.0), TROUBLE)?;
            Ok(())
        })
    }

    /// How it comes out of having been stopped for three seconds, while its load went on.
    ///
    /// # Errors
    /// Those of [`Bench::load`].
    pub fn stopped(&mut self) -> Result<Recovery, Failure> {
        self.recovered(|bench| {
            bench.relay()?.stop(true)?;
            let offered = bench.offer(CALM, TROUBLE);
            bench.relay()?.stop(false)?;
            offered.map(|_| ())
        })
    }

    fn recovered(
        &mut self,
        trouble: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<Recovery, Failure> {
        self.load(CALM, Duration::from_millis(500))?;
        let relay = self.relay()?;
        let (calls, before) = (relay.calls().len(), relay.resident()?);
        self.sink.reset_sink()?;
        trouble(self)?;
        self.offer(CALM, Duration::from_secs(1))?;
        let old = self.sink.latencies()?.over(STALE);
        let trial = self.load(CALM, Duration::from_secs(1))?;
        let old_still = self.sink.latencies()?.over(STALE);
        let relay = self.relay()?;
        let after = relay.resident()?;
        Ok(Recovery {
            loss_percent: trial.loss.max(0.0) * 100.0,
            stale: old + old_still,
            resident_percent: (after as f64 / before as f64 - 1.0) * 100.0,
            calls_gone: calls.saturating_sub(relay.count()?),
        })
    }
}

fn talkers(scene: &Scene, relay: &dyn Process) -> Result<Talkers, Failure> {
    let calls = relay.calls();
    Talkers::new(scene.family, scene.kind, calls, scene.payload, scene.stamp)
}

/// Where a search begins, and how far it steps until it has found a rate that is served and one
/// that is not.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Packets each second.
    pub from: f64,
    /// A ratio.
    pub step: f64,
    /// How near it comes, as a ratio.
    pub near: f64,
    /// How long each rate is offered.
    pub duration: Duration,
}

impl Search {
    /// The highest rate that loses less than 0.1%, by stepping and then halving. A trial that fails
    /// is repeated before it is believed, since what else the machine does may be the cause, unless
    /// a tenth is lost; and an overloaded relay may not be what it was, so the next trial has a
    /// fresh one.
    ///
    /// # Errors
    /// When a relay does not start or relays wrongly, or serves no rate.
    pub fn highest_rate<'a>(
        self,
        bench: &mut Bench<'a>,
        mut start: impl FnMut() -> Result<Box<dyn Process + 'a>, Failure>,
    ) -> Result<f64, Failure> {
        let (mut served, mut refused) = (None::<f64>, None::<f64>);
        let mut best = 0.0;
        loop {
            let rate = match (served, refused) {
                (Some(served), Some(refused)) if refused / served < self.near => break,
                (Some(served), Some(refused)) => (served * refused).sqrt(),
                (Some(served), None) => served * self.step,
                (None, Some(refused)) => refused / self.step,
                (None, None) => self.from,
            };
            if rate < LEAST {
                return Err(format!("it serves not even {LEAST} packets each second").into());
            }
            if rate > MOST {
                break;
            }
            let mut trial = bench.load(rate, self.duration)?;
            if (LOSS..FLOOD).contains(&trial.loss) {
                bench.replace(&mut start)?;
                trial = bench.load(rate, self.duration)?;
            } else if trial.loss < LOSS && trial.offered < rate * BEHIND {
                trial = bench.load(rate, self.duration)?;
            }
            if trial.loss < LOSS {
                // What was really offered counts; a generator that falls behind is found so.
                best = f64::max(best, trial.offered.min(rate));
                served = Some(rate);
                if trial.offered < rate * BEHIND {
                    let offered = trial.offered;
                    eprintln!("bench: the generator reaches {offered:.0} of {rate:.0}");
                    break;
                }
            } else {
                refused = Some(rate);
                if let Some(losses) = bench.relay()?.losses() {
                    let percent = trial.loss * 100.0;
                    eprintln!("bench: of {rate:.0}: lost {percent:.2}%: {losses}");
                }
                bench.replace(&mut start)?;
            }
        }
        Ok(best)
    }
}
