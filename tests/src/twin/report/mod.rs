//! The rows of what Teams asks, checked one by one on a session border controller.

mod observe;
mod rows;
mod stage;
mod table;

pub use super::dns::Service;
pub use observe::heard;
pub use rows::{
    bypass::{Lite, RESTARTED, call as bypassed, restart},
    invite::FRAGMENT,
};
pub use stage::{Stage, StageSettings, connect_with};
pub use table::{json, table};

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use super::agent::lock;
use crate::lab::{LabError, Result};

/// Stages that are up at one time.
const AT_ONCE: usize = 4;

/// What comes out of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail,
    Untestable,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Untestable => "untestable",
        })
    }
}

/// A row's result.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Topic and name, such as `hold/null-address`.
    pub row: &'static str,
    /// What it asks for.
    pub asks: &'static str,
    pub outcome: Outcome,
    /// Empty when it passed.
    pub why: String,
}

/// How a row is checked.
enum Check {
    Run(fn(&Stage) -> Result<()>),
    /// Cannot be seen from here, and why.
    Untestable(&'static str),
}

struct Row {
    name: &'static str,
    asks: &'static str,
    check: Check,
}

/// A row that is checked.
const fn row(name: &'static str, asks: &'static str, run: fn(&Stage) -> Result<()>) -> Row {
    Row {
        name,
        asks,
        check: Check::Run(run),
    }
}

/// A row that cannot be.
const fn untestable(name: &'static str, asks: &'static str, why: &'static str) -> Row {
    Row {
        name,
        asks,
        check: Check::Untestable(why),
    }
}

/// Rows that share a stage.
struct Group {
    name: &'static str,
    settings: StageSettings,
    rows: Vec<Row>,
}

/// What the report is asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only rows whose name begins so.
    pub only: Option<String>,
    /// Where to write down every message, a file for each stage.
    pub trace: Option<PathBuf>,
}

/// Checks every row. The verdicts are in the order of the topics.
///
/// # Errors
/// When the laboratory does not come up at all, or no row is asked for; a stage that does not come
/// up fails its rows.
pub fn run(options: &Options) -> Result<Vec<Verdict>> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::new(
            "network namespaces want root: run this with sudo",
        ));
    }
    let mut groups = rows::groups();
    if let Some(only) = &options.only {
        for group in &mut groups {
            group.rows.retain(|row| row.name.starts_with(only));
        }
        groups.retain(|group| !group.rows.is_empty());
        if groups.is_empty() {
            return Err(LabError::new(format!("no row begins with {only:?}")));
        }
    }
    let order = rows::order();
    // The long ones first.
    groups.reverse();
    let groups = Mutex::new(groups);
    let verdicts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(group) = next(&groups) {
                    let told = check(group, options.trace.as_deref());
                    lock(&verdicts).extend(told);
                }
            });
        }
    });
    let mut verdicts = verdicts
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    verdicts.sort_by_key(|verdict| order.iter().position(|&name| name == verdict.row));
    Ok(verdicts)
}

fn next(groups: &Mutex<Vec<Group>>) -> Option<Group> {
    lock(groups).pop()
}

fn check(group: Group, trace: Option<&Path>) -> Vec<Verdict> {
    let needs_stage = group
        .rows
        .iter()
        .any(|row| matches!(row.check, Check::Run(_)));
    let stage = if needs_stage {
        Stage::new(&group.settings).and_then(|stage| stage.wait_ready().map(|()| stage))
    } else {
        Err(LabError::new("no row wants a stage"))
    };
    let verdicts = group.rows.iter().map(|row| verdict(row, &stage)).collect();
    if let (Some(directory), Ok(stage)) = (trace, &stage) {
        let path = directory.join(format!("{}.txt", group.name));
        if let Err(error) = stage.write_trace(&path) {
            eprintln!("teams-report: {error}");
        }
    }
    verdicts
}

fn verdict(row: &Row, stage: &Result<Stage>) -> Verdict {
    let (outcome, why) = match (&row.check, stage) {
        (Check::Untestable(why), _) => (Outcome::Untestable, (*why).to_owned()),
        (Check::Run(_), Err(error)) => (
            Outcome::Fail,
            format!("the stage does not come up: {error}"),
        ),
        (Check::Run(run), Ok(stage)) => {
            let done = catch_unwind(AssertUnwindSafe(|| run(stage)))
                .unwrap_or_else(|_| Err(LabError::new("the check itself panicked")));
            match done {
                _ if !stage.is_running() => (
                    Outcome::Fail,
                    format!("the SBC has ended: {}", last_line(&stage.log())),
                ),
                Ok(()) => (Outcome::Pass, String::new()),
                Err(error) => (Outcome::Fail, error.to_string()),
            }
        }
    };
    Verdict {
        row: row.name,
        asks: row.asks,
        outcome,
        why,
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

/// Fails a row unless a condition holds.
fn demand(condition: bool, why: impl FnOnce() -> String) -> Result<()> {
    if condition {
        return Ok(());
    }
    Err(LabError::new(why()))
}
