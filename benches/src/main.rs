//! `bench`: measures Trunkline beside the bare redirect and a peer, and tells.

mod bencode;
mod chart;
mod cost;
mod document;
mod peer;
mod rates;
mod recovery;
mod report;
mod signalling;
mod torture;
mod wanted;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration, time::Instant};

use clap::Parser;
use relay_user::measure::{self, Failure, Kind, Machine, SERVE, Topology};
use report::Report;

/// Measures packets per second, latency, recovery and calls, beside the bare redirect and
/// rtpengine.
#[derive(Parser)]
struct Arguments {
    /// Fewer and shorter rounds: four minutes in all.
    #[arg(long)]
    quick: bool,
    /// Write every row, ratio and figure to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page for readers to a file, and its charts beside it.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Measure these parts alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Of the slow path beside rtpengine, measure calls of this kind alone.
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Octets of RTP payload in each packet; 160 is 20 ms of G.711.
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u16).range(16..=440))]
    payload: u16,
}

/// A kind of calls by its name.
fn kind(name: &str) -> Result<Kind, String> {
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| format!("one of {}", Kind::ALL.map(Kind::name).join(", ")))
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The fast path beside the bare redirect.
    Fast,
    /// The slow path beside rtpengine.
    Slow,
    /// What each adds at half of its rate.
    Latency,
    /// How each comes out of an overload and a stop.
    Recovery,
    /// Calls set up and torn down.
    Calls,
    /// Calls held.
    Memory,
    /// The programs by test run, and SRTP on the host.
    Cost,
}

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub struct Plan {
    quick: bool,
    /// Of the fast path.
    rounds: usize,
    /// Of the searches, which take longest.
    searches: usize,
    /// Of calls on the slow path; all without one.
    kind: Option<Kind>,
    latencies: usize,
    packets: u32,
    payload: usize,
    trial: Duration,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match (arguments.next().as_deref(), arguments.next()) {
        (Some(SERVE), Some(service)) => {
            // It has told whoever started it what went wrong.
            return match service.parse().and_then(measure::serve) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        _ => measure(&Arguments::parse()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, and says whether all that was asked for could be.
fn measure(arguments: &Arguments) -> Result<bool, Failure> {
    let plan = Plan {
        quick: arguments.quick,
        rounds: 5,
        searches: if arguments.quick { 1 } else { 5 },
        kind: arguments.kind,
        latencies: if arguments.quick { 1 } else { 5 },
        packets: if arguments.quick { 1 << 19 } else { 1 << 20 },
        payload: usize::from(arguments.payload),
        trial: Duration::from_millis(500),
    };
    let topology = Topology::new()?;
    let mut report = Report::default();
    let asked = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    let parts: [(Part, Measure); 7] = [
        (Part::Cost, |_, plan, report| {
            torture::torture(report);
            cost::cost(plan, report)
        }),
        (Part::Fast, |topology, plan, report| {
            rates::fast(topology, plan, report)?;
            rates::fast_srtp(topology, plan, report);
            Ok(())
        }),
        (Part::Slow, rates::slow),
        (Part::Latency, rates::latencies),
        (Part::Recovery, recovery::recovery),
        (Part::Calls, |_, plan, report| {
            signalling::rates(plan.quick, |row| take(report, row))
        }),
        (Part::Memory, |_, _, report| {
            signalling::memory(|row| take(report, row))
        }),
    ];
    for (part, measure) in parts.into_iter().filter(|(part, _)| asked(*part)) {
        let begin = Instant::now();
        if let Err(why) = measure(&topology, plan, &mut report) {
            report.fail(part, why.to_string());
        }
        println!("({part:?} took {:.0} s)", begin.elapsed().as_secs_f64());
    }
    let whole = report.close(asked);
    if let Some(file) = &arguments.json {
        write(file, &serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(file) = &arguments.document {
        let page = document::document(&report, &Machine::here(), file);
        write(file, page.as_bytes())?;
        for (name, svg) in chart::all(&report) {
            let chart = document::beside(file, name);
            write(&chart, svg.as_bytes())?;
        }
    }
    Ok(whole)
}

type Measure = fn(&Topology, Plan, &mut Report) -> Result<(), Failure>;

/// A row whose median may be a figure as well.
fn take(report: &mut Report, row: signalling::Row) {
    report.note(row.name, row.unit, row.value);
    if wanted::FIGURES.iter().any(|figure| figure.name == row.name) {
        let median = report.median(row.name);
        report.figure(row.name, median);
    }
}

fn write(file: &std::path::Path, content: &[u8]) -> Result<(), Failure> {
    fs::write(file, content).map_err(|error| format!("{}: {error}", file.display()).into())
}
