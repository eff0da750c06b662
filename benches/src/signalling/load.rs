//! SIPp on both sides, at one rate.

use std::{fs, time::Duration};

use tests::lab::{Process, wait_until};

use super::{
    Failure, Media, scenario,
    stage::{Stage, write},
};

/// How long SIPp keeps a call up, in milliseconds, without media and with: so long that RTP goes
/// by the kernel before the end.
const HOLD: u32 = 10;
const HOLD_WITH_MEDIA: u32 = 200;
/// How many seconds the last calls may take to end: longer than an answer and an end together.
const PATIENCE: u32 = 2 * scenario::PATIENCE / 1_000 + 1;
/// Where the caller's side counts.
const STATISTICS: &str = "statistics.csv";
/// What SIPp's sockets hold, in octets.
const BUFFER: &str = "8388608";

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Calls a second.
    pub rate: u32,
    pub calls: u32,
    pub media: Media,
}

/// What came of it, as the caller's side counts.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Calls a second that were begun.
    pub rate: f64,
    pub failed: u64,
    /// Messages that the caller's side had to send again.
    pub again: u64,
}

impl Load {
    /// Runs it to its end.
    ///
    /// # Errors
    /// When SIPp does not run or does not say what it did.
    pub fn run(self, stage: &Stage) -> Result<Outcome, Failure> {
        let hold = match self.media {
            Media::None => HOLD,
            Media::Offloaded => HOLD_WITH_MEDIA,
        };
        let (mut caller, _callee) = self.start(stage, hold)?;
        let limit = Duration::from_secs(u64::from(self.calls / self.rate + PATIENCE + 2));
        // It fails when a call has failed; the statistics say so too.
        if caller.wait(limit).is_err() {
            // So far behind that it does not look at its clock.
            return Ok(Outcome {
                rate: 0.0,
                failed: u64::from(self.calls),
                again: 0,
            });
        }
        outcome(stage, self)
    }

    /// Starts the callee and the caller; `hold` is how long a call lasts, in milliseconds.
    ///
    /// # Errors
    /// When SIPp cannot be started.
    pub fn start(self, stage: &Stage, hold: u32) -> Result<(Process, Process), Failure> {
        write(
            &stage.lab,
            "caller.xml",
            scenario::caller(self.media).as_bytes(),
        )?;
        write(
            &stage.lab,
            "callee.xml",
            scenario::callee(self.media).as_bytes(),
        )?;
        write(&stage.lab, "sound.ul", &scenario::SOUND)?;
        // What an earlier load came to is no outcome of this one.
        write(&stage.lab, STATISTICS, &[])?;
        let mut callee = self.sipp(stage, 1)?;
        let mut process = callee.begin("callee.xml")?;
        let bound = wait_until(Duration::from_secs(5), || {
            callee.is_bound() || !process.is_running()
        });
        if !bound || !process.is_running() {
            return Err(format!("SIPp does not listen: {}", process.text()).into());
        }
        let mut caller = self.sipp(stage, 0)?;
        caller
            .command
            .arg(stage.called().to_string())
            .args(["-r", &self.rate.to_string()])
            .args(["-m", &self.calls.to_string()])
            .args(["-l", &self.calls.to_string()])
            .args(["-d", &hold.to_string()])
            .args(["-trace_stat", "-stf", STATISTICS, "-fd", "1"])
            .args(["-timeout", &(self.calls / self.rate + PATIENCE).to_string()]);
        Ok((caller.begin("caller.xml")?, process))
    }

    fn sipp<'a>(&self, stage: &'a Stage, side: usize) -> Result<Sipp<'a>, Failure> {
        let local = stage.local(side);
        let mut command = stage.namespace(side).command("sipp");
        command
            .current_dir(stage.lab.directory())
            .args(["-i", &local.ip().to_string()])
            .args(["-mi", &local.ip().to_string()])
            .args(["-p", &local.port().to_string()])
            .args(["-t", "u1", "-nostdin", "-buff_size", BUFFER])
            .args(["-mp", "20000"]);
        Ok(Sipp {
            stage,
            side,
            command,
        })
    }
}

struct Sipp<'a> {
    stage: &'a Stage,
    side: usize,
    command: std::process::Command,
}

impl Sipp<'_> {
    fn begin(&mut self, scenario: &str) -> Result<Process, Failure> {
        self.command.args(["-sf", scenario]);
        let command = std::mem::replace(&mut self.command, std::process::Command::new("true"));
        Ok(Process::start(
            scenario.trim_end_matches(".xml"),
            command,
            self.stage.lab.directory(),
        )?)
    }

    /// Whether its SIP port is taken.
    fn is_bound(&self) -> bool {
        let port = self.stage.local(self.side).port();
        let listing = self
            .stage
            .namespace(self.side)
            .run("ss", &["-Huln", &format!("sport = :{port}")]);
        listing.is_ok_and(|text| !text.trim().is_empty())
    }
}

/// Reads the last line of SIPp's statistics.
fn outcome(stage: &Stage, load: Load) -> Result<Outcome, Failure> {
    let path = stage.lab.directory().join(STATISTICS);
    let text = fs::read_to_string(&path)?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(';').collect()).collect();
    let field = |row: &[&str], name: &str| -> Option<f64> {
        let place = names.iter().position(|known| *known == name)?;
        row.get(place)?.parse().ok()
    };
    let last = rows.last().ok_or("SIPp wrote no statistics")?;
    let missing = |name: &str| format!("SIPp's statistics have no {name}");
    let get = |name: &str| field(last, name).ok_or_else(|| missing(name));
    // The seconds in which it began calls, without the first and the last.
    let mut rates: Vec<f64> = rows
        .iter()
        .filter_map(|row| field(row, "CallRate(P)"))
        .filter(|rate| *rate > f64::from(load.rate) / 10.0)
        .collect();
    rates.sort_by(f64::total_cmp);
    let rate = rates.get(rates.len() / 2).copied();
    // What was cut off at the end of its time is no success either.
    let unended = f64::from(load.calls) - get("SuccessfulCall(C)")?;
    Ok(Outcome {
        rate: rate.ok_or_else(|| missing("CallRate(P)"))?,
        failed: get("FailedCall(C)")?.max(unended) as u64,
        again: get("Retransmissions(C)")? as u64,
    })
}
