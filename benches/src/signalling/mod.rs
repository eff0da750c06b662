//! Calls: how many are set up and torn down in a second with SIPp on both sides, how much later
//! the callee hears of one, and what one costs in memory while it is held.

mod delay;
mod load;
mod memory;
mod scenario;
mod stage;

use std::error::Error;

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

pub type Rows = Result<Vec<Row>, Failure>;

const fn row(name: &'static str, unit: &'static str, value: f64) -> Row {
    Row { name, unit, value }
}

/// The tool alone: `sipp_alone_calls_per_second`.
///
/// # Errors
/// As [`rate`].
pub fn direct_rows(quick: bool) -> Rows {
    let rate = direct(plan(quick, 4_000, 8_000))?;
    Ok(vec![row("sipp_alone_calls_per_second", "calls/s", rate)])
}

/// Without media: `calls_per_second_signalling`, and what was added to post-dial delay at half of
/// it.
///
/// # Errors
/// As [`rate`].
pub fn signalling_rows(quick: bool) -> Rows {
    let rate = rate(Media::None, plan(quick, 2_500, 6_500))?;
    Ok(vec![
        row(
            "calls_per_second_signalling",
            "calls/s",
            rate.calls_per_second,
        ),
        row("post_dial_delay_p50_ms", "ms", rate.delay_p50_ms),
        row("post_dial_delay_p99_ms", "ms", rate.delay_p99_ms),
    ])
}

/// With media: as [`signalling_rows`], under `calls_per_second_media`.
///
/// # Errors
/// As [`rate`], and when the kernel relayed nothing.
pub fn media_rows(quick: bool) -> Rows {
    let rate = rate(Media::Offloaded, plan(quick, 500, 2_500))?;
    Ok(vec![
        row("calls_per_second_media", "calls/s", rate.calls_per_second),
        row("post_dial_delay_media_p50_ms", "ms", rate.delay_p50_ms),
        row("post_dial_delay_media_p99_ms", "ms", rate.delay_p99_ms),
    ])
}

/// Calls held at once, with a limit of descriptors: few of them and many. The figures are those of
/// the many.
///
/// # Errors
/// When not all calls come up or stay up.
pub fn memory_rows(_quick: bool) -> Rows {
    let few = held(1_000, DESCRIPTORS)?;
    let many = held(50_000, DESCRIPTORS)?;
    Ok(vec![
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
    ])
}

/// The most descriptors of the process while calls are held.
const DESCRIPTORS: u32 = 20_000;

fn plan(quick: bool, first: u32, last: u32) -> RatePlan {
    RatePlan {
        first,
        step: if quick { 1_000 } else { 500 },
        last,
        seconds: if quick { 4 } else { 10 },
    }
}

/// What calls carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    /// Signalling alone: no packet of RTP, and no XDP program.
    None,
    /// Each call has its two flows in the kernel's table, and RTP goes both ways.
    Offloaded,
}

/// How the search goes.
#[derive(Clone, Copy, Debug)]
struct RatePlan {
    /// The first rate, in calls a second.
    first: u32,
    /// By how much it is raised.
    step: u32,
    /// Where the search ends without a failed call.
    last: u32,
    /// How long each rate is held.
    seconds: u32,
}

/// What the search came to.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// The highest rate at which no call failed, in calls a second, as it was reached.
    calls_per_second: f64,
    /// Milliseconds that post-dial delay grew by at half of that rate, median.
    delay_p50_ms: f64,
    /// As before, the 99th percentile.
    delay_p99_ms: f64,
}

/// The calls each second that Trunkline carries until the first failed call.
///
/// # Errors
/// When something does not start, or when not even the first rate goes without a failed call.
fn rate(media: Media, plan: RatePlan) -> Result<Rate, Failure> {
    let stage = Stage::new(&StageSettings::of(media))?;
    let mut best: Option<Outcome> = None;
    let mut offered = plan.first;
    while offered <= plan.last {
        let outcome = attempt(&stage, media, offered, plan.seconds)?;
        if outcome.failed > 0 {
            break;
        }
        best = Some(outcome);
        offered += plan.step;
    }
    let best = best.ok_or("calls fail even at the first rate")?;
    let half = (best.rate / 2.0) as u32;
    let delays = Delays::watch(&stage)?;
    run(&stage, media, half, plan.seconds)?;
    let delays = delays.finish();
    if media == Media::Offloaded {
        stage.expect_offloaded()?;
    }
    Ok(Rate {
        calls_per_second: best.rate,
        delay_p50_ms: delays.percentile(50),
        delay_p99_ms: delays.percentile(99),
    })
}

/// The same load from SIPp to SIPp with nothing between them: where the tool itself ends.
///
/// # Errors
/// As [`rate`].
fn direct(plan: RatePlan) -> Result<f64, Failure> {
    let stage = Stage::direct()?;
    let mut best = None;
    let mut offered = plan.first;
    while offered <= plan.last {
        let outcome = attempt(&stage, Media::None, offered, plan.seconds)?;
        if outcome.failed > 0 {
            break;
        }
        best = Some(outcome.rate);
        offered += plan.step;
    }
    best.ok_or_else(|| "SIPp fails by itself at the first rate".into())
}

/// One rate. A failed one has another chance: the first failure on a machine where others work
/// too may be theirs.
fn attempt(stage: &Stage, media: Media, rate: u32, seconds: u32) -> Result<Outcome, Failure> {
    let outcome = run(stage, media, rate, seconds)?;
    if outcome.failed == 0 {
        return Ok(outcome);
    }
    run(stage, media, rate, seconds)
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
