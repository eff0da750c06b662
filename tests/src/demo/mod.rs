//! The demo: real calls through Trunkline, and what was heard of them.

mod judge;
mod keep;
mod kind;
mod peers;
mod report;
mod table;

use std::{
    collections::BTreeMap,
    fs,
    io::IsTerminal,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    daemon::{CallView, Daemon, DaemonSettings},
    lab::{Lab, LabError, Party, Result, wait_until},
    peers::Certificates,
    wire::Capture,
};
use kind::Kind;
use peers::{Callees, Caller};

/// What the demo is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Calls of each kind.
    pub calls: u32,
    /// Seconds that each call lasts.
    pub seconds: u32,
    /// Where the results go as JSON.
    pub json: Option<PathBuf>,
    /// Leave everything running until Ctrl-C.
    pub keep: bool,
}

/// How long a call may take to be answered, and to end.
const ANSWER: Duration = Duration::from_secs(20);
/// How often the terminal shows how the calls are.
const SHOW: Duration = Duration::from_secs(1);

/// Captures of the three parties' wires.
struct Wires {
    carrier: Capture,
    teams: Capture,
}

/// Runs the demo; true when every call was answered and heard both ways and nothing went to Teams
/// in the clear.
///
/// # Errors
/// When the laboratory or Trunkline do not come up, frames of a wire are lost, or the results cannot
/// be written.
pub fn run(options: &Options) -> Result<bool> {
    let mut lab = Lab::new()?;
    println!(
        "demo: namespaces {}",
        lab.sbc().name().trim_end_matches("-sbc")
    );
    let certificates = Certificates::make(lab.directory())?;
    let wires = Wires {
        carrier: Capture::start(lab.peer(Party::Carrier))?,
        teams: Capture::start(lab.peer(Party::Teams))?,
    };
    let settings = DaemonSettings {
        centre_transport: "tcp",
        ..DaemonSettings::default()
    };
    let mut daemon = Daemon::start(&lab, &settings, &certificates)?;
    for line in daemon.log().lines() {
        println!("trunkline: {line}");
    }
    let length =
        usize::try_from(options.seconds + options.calls * 4 + 60).map_err(LabError::new)?;
    let mut callees = Callees::start(&lab, &certificates, options.calls, length)?;

    let mut callers = Vec::new();
    for index in 0..options.calls {
        for kind in Kind::ALL {
            println!(
                "demo: {} calls {}: {}",
                kind.from(),
                kind.to(),
                kind.number(index)
            );
            callers.push(Caller::start(&lab, &certificates, kind, index, length)?);
        }
        let wanted = usize::try_from(index + 1).map_err(LabError::new)?;
        if !wait_until(ANSWER, || {
            callees.answered(&callers) >= wanted * Kind::ALL.len()
        }) {
            println!("demo: not every call was answered within {ANSWER:?}");
        }
        peers::next_second();
    }

    let views = watch(&daemon, options.seconds)?;
    hang_up(&mut callees, &mut callers);

    let captured = judge::Captured {
        carrier: wires.carrier.datagrams()?,
        teams: wires.teams.datagrams()?,
    };
    let needed = f64::from(options.seconds) * 0.6;
    let results: Vec<judge::CallResult> = callers
        .iter()
        .map(|caller| judge::judge(caller, &callees, &captured, &views, needed))
        .collect();
    let plain = judge::plain(&callers, &callees, &captured);
    println!("\n{}", table::table(&results));
    println!("{}", table::wires(&plain));
    let running = daemon.is_running();
    let good = running && plain.is_hidden() && results.iter().all(judge::CallResult::is_good);
    if !running {
        println!("demo: trunkline has ended:\n{}", daemon.log());
    }
    println!(
        "demo: {}",
        if good {
            "every call was answered and heard both ways"
        } else {
            "NOT every call was answered and heard both ways"
        }
    );
    if let Some(file) = &options.json {
        fs::write(file, report::json(&results, &plain))
            .map_err(|error| LabError::new(format!("{}: {error}", file.display())))?;
    }
    if !good {
        lab.keep_files();
        println!("demo: what everybody said: {}", lab.directory().display());
    }
    if options.keep {
        keep::until_interrupted(&lab, &mut daemon)?;
    }
    Ok(good)
}

/// Shows the calls until their time is over and gives their last state by number.
fn watch(daemon: &Daemon, seconds: u32) -> Result<BTreeMap<String, CallView>> {
    let began = Instant::now();
    let end = began + Duration::from_secs(u64::from(seconds));
    let redraw = std::io::stdout().is_terminal();
    let mut shown = 0;
    loop {
        let calls = daemon.calls()?;
        let passed = began.elapsed().as_secs();
        let text = table::live(passed, &calls);
        if redraw && shown > 0 {
            print!("\x1b[{shown}A\x1b[J");
        }
        println!("{text}");
        shown = text.lines().count();
        if Instant::now() >= end {
            return Ok(calls
                .into_iter()
                .map(|call| (call.number.clone(), call))
                .collect());
        }
        let next = (Instant::now() + SHOW).min(end);
        wait_until(SHOW, || Instant::now() >= next);
    }
}

fn hang_up(callees: &mut Callees, callers: &mut [Caller]) {
    let tell = |who: &str, done: Result<()>| {
        if let Err(error) = done {
            println!("demo: {who}: {error}");
        }
    };
    tell("hanging up", callees.hang_up(ANSWER));
    for caller in callers.iter_mut() {
        tell(&caller.number(), caller.hang_up());
    }
    for caller in callers {
        tell(&caller.number(), caller.finish(ANSWER));
    }
}
