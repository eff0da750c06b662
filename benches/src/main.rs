//! `bench`: measures Trunkline beside the bare redirect and a peer, and tells.

mod bencode;
mod calls;
mod document;
mod fast;
mod fast_calls;
mod judge;
mod ours;
mod peer;
mod report;
mod signalling;
mod topology;
mod trial;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use calls::Kind;
use clap::Parser;
use fast::{Chain, Relay};
use relay_user::measure::Latencies;
use report::Report;
use topology::{Failure, Family, Machine, Topology};
use trial::{Bench, Who};

/// Measures packets per second, latency and recovery, beside the bare redirect and rtpengine.
#[derive(Parser)]
struct Arguments {
    /// Fewer and shorter rounds: some minutes in all.
    #[arg(long)]
    quick: bool,
    /// Write every row, ratio and figure to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page for readers to a file, and its chart beside it.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Measure one part alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Octets of RTP payload in each packet; 160 is 20 ms of G.711.
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u16).range(16..=440))]
    payload: u16,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The fast path beside the bare redirect.
    Fast,
    /// The slow path beside rtpengine, and the latencies of all three.
    Slow,
    /// What is lost after an overload.
    Overload,
    /// Calls set up and torn down, and held.
    Calls,
}

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Of the fast path.
    rounds: usize,
    /// Of the searches, which take longest.
    searches: usize,
    packets: u32,
    payload: usize,
    trial: Duration,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let plan = Plan {
        rounds: 5,
        searches: if arguments.quick { 1 } else { 5 },
        packets: if arguments.quick { 1 << 19 } else { 1 << 21 },
        payload: usize::from(arguments.payload),
        trial: Duration::from_millis(if arguments.quick { 700 } else { 2000 }),
    };
    let topology = Topology::new()?;
    let mut report = Report::default();
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    if wanted(Part::Fast) {
        fast_path(&topology, plan, &mut report)?;
    }
    if wanted(Part::Slow) {
        slow_path(&topology, plan, &mut report)?;
        latencies(&topology, plan, &mut report)?;
    }
    if wanted(Part::Overload) {
        overload(&topology, plan, &mut report)?;
    }
    if wanted(Part::Calls) {
        for rows in [
            signalling::direct_rows,
            signalling::signalling_rows,
            signalling::media_rows,
            signalling::memory_rows,
        ] {
            for row in rows(arguments.quick)? {
                report.note(row.name, row.unit, row.value);
                report.figures.insert(row.name, row.value);
            }
        }
    }
    report.close();
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_vec_pretty(&report)?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(file) = &arguments.document {
        let chart = file.with_extension("svg");
        let name = chart.file_name().unwrap_or_default().to_string_lossy();
        let page = document::document(&report, &Machine::here(), &name);
        fs::write(file, page).map_err(|error| format!("{}: {error}", file.display()))?;
        fs::write(&chart, document::chart(&report))
            .map_err(|error| format!("{}: {error}", chart.display()))?;
    }
    Ok(())
}

/// Each number of flows, ours and the limit in turn.
fn fast_path(topology: &Topology, plan: Plan, report: &mut Report) -> Result<(), Failure> {
    for _ in 0..plan.rounds {
        for (family, suffix) in [(Family::V4, ""), (Family::V6, "_ipv6")] {
            for flows in [1, 1_000, 10_000, 100_000] {
                if family == Family::V6 && flows != 1 && flows != 100_000 {
                    continue;
                }
                for (relay, name) in [(Relay::Limit, "limit"), (Relay::Trunkline, "fast")] {
                    let mut chain =
                        Chain::new(topology, relay, family, flows, plan.payload, false)?;
                    chain.run(topology, 1 << 17)?;
                    let run = chain.run(topology, plan.packets)?;
                    let name = format!("{name}_{flows}{suffix}");
                    report.note(&name, "packets/s", run.rate());
                    let lost = (run.sent - run.arrived) as f64 / run.sent as f64;
                    report.note(&format!("{name}_loss"), "%", lost * 100.0);
                }
            }
        }
    }
    for suffix in ["1", "1000", "10000", "100000", "1_ipv6", "100000_ipv6"] {
        report.ratio(
            &format!("fast_vs_limit_{suffix}"),
            &format!("fast_{suffix}"),
            &format!("limit_{suffix}"),
        );
    }
    if let (Some(fast), Some(limit)) = (report.median("fast_1"), report.median("limit_1")) {
        report
            .figures
            .insert("fast_relay_ns", 1e9 / fast - 1e9 / limit);
    }
    Ok(())
}

/// Each kind of call, ours and rtpengine in turn.
fn slow_path(topology: &Topology, plan: Plan, report: &mut Report) -> Result<(), Failure> {
    for _ in 0..plan.searches {
        for kind in Kind::ALL {
            for who in [Who::Slow, Who::Rtpengine] {
                let rate = trial::highest_rate(topology, who, kind, plan.payload, plan.trial)?;
                let name = format!("{}_{}", who.name(), kind.name());
                report.note(&name, "packets/s", rate);
            }
        }
    }
    for kind in Kind::ALL {
        let kind = kind.name();
        report.ratio(
            &format!("slow_vs_rtpengine_{kind}"),
            &format!("slow_{kind}"),
            &format!("rtpengine_{kind}"),
        );
    }
    report.ratio("fast_vs_rtpengine_rtp", "fast_1", "rtpengine_rtp");
    Ok(())
}

/// What each adds at half of what it serves, from the generator's clock to the sink's.
fn latencies(topology: &Topology, plan: Plan, report: &mut Report) -> Result<(), Failure> {
    for _ in 0..plan.searches {
        for who in [Who::Slow, Who::Rtpengine] {
            let Some(most) = report.median(&format!("{}_rtp", who.name())) else {
                continue;
            };
            let mut bench = Bench::new(topology, who, Kind::Rtp, plan.payload, true)?;
            let latencies = bench.latencies(most / 2.0, plan.trial)?;
            note_latencies(report, who.name(), &latencies)?;
        }
        if let Some(most) = report.median("fast_1") {
            let mut chain = Chain::new(
                topology,
                Relay::Trunkline,
                Family::V4,
                1,
                plan.payload,
                true,
            )?;
            let latencies = chain.latencies(topology, most / 2.0, plan.trial)?;
            note_latencies(report, "fast", &latencies)?;
        }
    }
    for (figure, row) in [
        ("fast_latency_p99_us", "fast_latency_p99"),
        ("slow_latency_p99_us", "slow_latency_p99"),
        ("rtpengine_latency_p99_us", "rtpengine_latency_p99"),
    ] {
        if let Some(median) = report.median(row) {
            report.figures.insert(figure, median);
        }
    }
    Ok(())
}

fn note_latencies(report: &mut Report, who: &str, latencies: &Latencies) -> Result<(), Failure> {
    for (fraction, name) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99_9")] {
        let nanoseconds = latencies
            .quantile(fraction)
            .ok_or("no packet carried a time")?;
        let name = format!("{who}_latency_{name}");
        report.note(&name, "µs", nanoseconds as f64 / 1000.0);
    }
    Ok(())
}

/// Ten times the load for three seconds, and what is lost from one second later.
fn overload(topology: &Topology, plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let mut worst = 0.0f64;
    for (who, kind) in [
        (Who::Fast, Kind::Rtp),
        (Who::Slow, Kind::Rtp),
        (Who::Slow, Kind::Protect),
        (Who::Slow, Kind::Unprotect),
        (Who::Rtpengine, Kind::Rtp),
    ] {
        let mut bench = Bench::new(topology, who, kind, plan.payload, false)?;
        // Ten times the load is no overload where the machine serves it.
        let served = report.median(&format!("{}_{}", who.name(), kind.name()));
        let lost = bench.recovered(served.unwrap_or(0.0))?;
        report.note(
            &format!("{}_{}_recovered_loss", who.name(), kind.name()),
            "%",
            lost,
        );
        if who == Who::Rtpengine {
            report
                .figures
                .insert("rtpengine_recovered_loss_percent", lost);
        } else {
            worst = worst.max(lost);
        }
    }
    report.figures.insert("recovered_loss_percent", worst);
    Ok(())
}
