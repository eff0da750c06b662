//! Calls that are held: how many at once, with how many descriptors, and what each takes.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Failure, Media,
    load::Load,
    stage::{Stage, StageSettings},
};

/// How long transactions that are over are remembered (RFC 3261, 64 times T1), and some.
const SETTLE: Duration = Duration::from_secs(34);
/// How long the allocator keeps pages that are free, and some.
const DECAY: Duration = Duration::from_secs(12);
/// How fast calls are set up, each second.
const RATE: u32 = 3_000;
/// How often it is looked whether all are up.
const LOOK: Duration = Duration::from_millis(500);
/// How long SIPp holds them, in milliseconds: longer than anybody looks.
const FOREVER: u32 = 3_600_000;

/// What holding calls takes.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Calls that were up at once.
    pub calls: u32,
    /// Resident memory that came with them, in octets for each call.
    pub resident_per_call: f64,
    /// Kernel map memory in octets for each call that there is room for.
    pub map_per_call: f64,
    /// Descriptors that the process had open.
    pub descriptors: usize,
}

/// Holds `calls` calls with a limit of `descriptors` on Trunkline, media offloaded.
///
/// # Errors
/// When something does not start, or when not all calls come up.
pub fn held(calls: u32, descriptors: u32) -> Result<Held, Failure> {
    let stage = Stage::new(&StageSettings {
        calls,
        descriptors,
        ..StageSettings::of(Media::Offloaded)
    })?;
    let daemon = stage.daemon.as_ref().ok_or("there is no Trunkline")?;
    // What starting took and gave back is not counted for the calls. Only time makes the allocator
    // give it back.
    thread::sleep(DECAY);
    let before = daemon.resident()?;
    let (_caller, _callee) = Load {
        rate: RATE,
        calls,
        media: Media::None,
    }
    .start(&stage, FOREVER)?;
    let established = || {
        let labels = [("trunk", "carrier"), ("state", "established")];
        stage.metric("trunkline_calls", &labels).unwrap_or(0.0) as u32
    };
    let limit = Duration::from_secs(u64::from(calls / RATE + 45));
    let begin = Instant::now();
    while established() < calls {
        if begin.elapsed() > limit {
            return Err(format!("of {calls} calls {} are up", established()).into());
        }
        // Calls are counted where they are scraped, which tells nobody.
        thread::sleep(LOOK);
    }
    // Only time ends what is remembered of transactions.
    thread::sleep(SETTLE);
    let up = established();
    if up < calls {
        return Err(format!("of {calls} calls {up} are still up").into());
    }
    let resident = daemon.resident()? as f64;
    let maps = stage.metric("trunkline_map_memory_octets", &[])?;
    Ok(Held {
        calls: up,
        resident_per_call: (resident - before as f64) / f64::from(up),
        map_per_call: maps / f64::from(calls),
        descriptors: daemon.descriptors()?,
    })
}
