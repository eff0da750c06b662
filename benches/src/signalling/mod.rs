//! Calls: how many are set up and torn down in a second with SIPp on both sides, how much later
//! the callee hears of one, and what one costs in memory while it is held.

mod delay;
mod load;
mod memory;
mod scenario;
mod stage;

use std::{error::Error, thread};

use memory::held;

use delay::Delays;
use load::{Load, Outcome};
use stage::{Stage, StageSettings};

type Failure = Box<dyn Error + Send + Sync>;

/// One measured quantity.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    pub value: f64,
}

const fn row(name: &'static str, unit: &'static str, value: f64) -> Row {
    Row { name, unit, value }
}

/// Calls each second: by the tool alone, as far as it is asked (`sipp_alone_calls_per_second`),
/// without media (`calls_per_second_signalling`) and with media offloaded
/// (`calls_per_second_media`), each with what was added to post-dial delay at half of it.
///
/// # Errors
/// When something does not start, when not even the first rate goes without a failed call, or when
/// the kernel relayed nothing.
pub fn rates(quick: bool, mut take: impl FnMut(Row)) -> Result<(), Failure> {
    let plan = |first| RatePlan {
        first,
        seconds: if quick { 2 } else { 3 },
        near: if quick { STEP + 0.01 } else { 1.15 },
        delays: if quick { 1 } else { 3 },
    };
    // The tool alone is not what ends the others' search: it does more than twice as much.
    let direct = run(&Stage::direct()?, Media::None, 15_000, 2)?;
    if direct.failed == 0 {
        take(row("sipp_alone_calls_per_second", "calls/s", direct.rate));
    }
    for (media, first, [rate_name, p50, p99]) in [
        (
            Media::None,
            5_000,
            [
                "calls_per_second_signalling",
                "post_dial_delay_p50_ms",
                "post_dial_delay_p99_ms",
            ],
        ),
        (
            Media::Offloaded,
            3_000,
            [
                "calls_per_second_media",
                "post_dial_delay_media_p50_ms",
                "post_dial_delay_media_p99_ms",
            ],
        ),
    ] {
        let found = rate(media, plan(first))?;
        take(row(rate_name, "calls/s", found.calls_per_second));
        for delay in found.delays {
            take(row(p50, "ms", delay.p50_ms));
            take(row(p99, "ms", delay.p99_ms));
        }
    }
    Ok(())
}

/// Calls held at once, with a limit of descriptors: few of them and many. The figures are those of
/// the many. Both are held at the same time, which memory does not mind.
///
/// # Errors
/// When not all calls come up or stay up.
pub fn memory(mut take: impl FnMut(Row)) -> Result<(), Failure> {
    let (few, many) = thread::scope(|scope| {
        let few = scope.spawn(|| held(1_000, DESCRIPTORS));
        let many = held(50_000, DESCRIPTORS);
        (few.join(), many)
    });
    let few = few.map_err(|_| "holding calls panicked")??;
    let many = many?;
    for row in [
        row(
            "resident_bytes_per_call_1000",
            "octets",
            few.resident_per_call,
        ),
        row("map_bytes_per_call_1000", "octets", few.map_per_call),
        row("calls_held", "calls", f64::from(many.calls)),
        row("resident_bytes_per_call", "octets", many.resident_per_call),
        row("map_bytes_per_call", "octets", many.map_per_call),
        row("descriptors_held", "", many.descriptors as f64),
    ] {
        take(row);
    }
    Ok(())
}

/// The most descriptors of the process while calls are held.
const DESCRIPTORS: u32 = 20_000;

/// What calls carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    /// Signalling alone: no packet of RTP, and no XDP program.
    None,
    /// Each call has its two flows in the kernel's table, and RTP goes both ways.
    Offloaded,
}

/// How a search goes.
#[derive(Clone, Copy, Debug)]
struct RatePlan {
    /// The first rate, in calls a second.
    first: u32,
    /// How long each rate is held.
    seconds: u32,
    /// How near it comes, as a ratio.
    near: f64,
    /// How often the delay is measured.
    delays: usize,
}

/// By how much the rate is raised until a call fails.
const STEP: f64 = 1.3;
/// The failed calls, in percent of those of a second, that are believed at once.
const FLOOD: u64 = 20;
/// Where a search gives up, in calls a second.
const LEAST: f64 = 50.0;

/// The search for the highest rate without a failed call.
struct Search {
    media: Media,
    plan: RatePlan,
    stage: Option<Stage>,
}

impl Search {
    const fn new(media: Media, plan: RatePlan) -> Self {
        Self {
            media,
            plan,
            stage: None,
        }
    }

    /// Raises the rate until a call fails, and halves what lies between. A rate that fails is tried
    /// again before that is believed: a failure on a machine where others work too may be theirs.
    fn run(&mut self) -> Result<Outcome, Failure> {
        let (mut best, mut good, mut bad) = (None, None::<f64>, None::<f64>);
        loop {
            let offered = match (good, bad) {
                (Some(good), Some(bad)) if bad / good < self.plan.near => break,
                (Some(good), Some(bad)) => (good * bad).sqrt(),
                (Some(good), None) => good * STEP,
                (None, Some(bad)) => bad / STEP,
                (None, None) => f64::from(self.plan.first),
            };
            if offered < LEAST {
                return Err(format!("calls fail even at {LEAST} a second").into());
            }
            let mut outcome = self.attempt(offered as u32)?;
            // Where many fail, no other work on the machine is the cause.
            if (1..FLOOD * u64::from(offered as u32) / 100).contains(&outcome.failed) {
                self.stage = None;
                outcome = self.attempt(offered as u32)?;
            }
            if outcome.failed > 0 {
                self.stage = None;
                bad = Some(offered);
            } else {
                good = Some(offered);
                // SIPp itself may not reach what it is asked for.
                let behind = outcome.rate < offered * 0.95;
                best = Some(outcome);
                if behind {
                    eprintln!("bench: SIPp reaches {:.0} of {offered:.0}", outcome.rate);
                    break;
                }
            }
        }
        best.ok_or_else(|| "no rate went without a failed call".into())
    }

    /// One rate.
    fn attempt(&mut self, rate: u32) -> Result<Outcome, Failure> {
        let (media, seconds) = (self.media, self.plan.seconds);
        run(self.stage()?, media, rate, seconds)
    }

    /// Where it goes on: a new one after a failure.
    fn stage(&mut self) -> Result<&Stage, Failure> {
        let stage = match self.stage.take() {
            Some(stage) => stage,
            None => Stage::new(&StageSettings::of(self.media))?,
        };
        Ok(self.stage.insert(stage))
    }
}

/// What the search came to.
#[derive(Clone, Debug)]
struct Rate {
    /// The highest rate at which no call failed, in calls a second, as it was reached.
    calls_per_second: f64,
    /// At half of that rate.
    delays: Vec<Delay>,
}

/// What was added to post-dial delay.
#[derive(Clone, Copy, Debug)]
struct Delay {
    p50_ms: f64,
    p99_ms: f64,
}

/// The calls each second that Trunkline carries until the first failed call.
fn rate(media: Media, plan: RatePlan) -> Result<Rate, Failure> {
    let mut search = Search::new(media, plan);
    let best = search.run()?;
    let half = (best.rate / 2.0) as u32;
    let stage = search.stage()?;
    let delays: Result<_, Failure> = (0..plan.delays)
        .map(|_| {
            let delays = Delays::watch(stage)?;
            run(stage, media, half, plan.seconds)?;
            let delays = delays.finish()?;
            Ok(Delay {
                p50_ms: delays.percentile(50)?,
                p99_ms: delays.percentile(99)?,
            })
        })
        .collect();
    if media == Media::Offloaded {
        stage.expect_offloaded()?;
    }
    Ok(Rate {
        calls_per_second: best.rate,
        delays: delays?,
    })
}

fn run(stage: &Stage, media: Media, rate: u32, seconds: u32) -> Result<Outcome, Failure> {
    let outcome = Load {
        rate,
        calls: rate * seconds,
        media,
    }
    .run(stage)?;
    println!(
        "  {rate} calls/s offered: {:.0} reached, {} failed, {} messages again",
        outcome.rate, outcome.failed, outcome.again
    );
    Ok(outcome)
}
