//! How a relay comes out of an overload, and of having been stopped.

use relay_user::{
    measure::{Failure, Kind, Recovery, Stamp, Topology},
    media::Family,
};

use crate::{Plan, rates::Who, report::Report};

/// Both troubles, one after the other, for every path and kind of call.
pub fn recovery(topology: &Topology, plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let mut cases = vec![
        (Who::Fast, Kind::Rtp),
        (Who::Fast, Kind::Protect),
        (Who::Slow, Kind::Protect),
    ];
    if !plan.quick {
        cases.push((Who::Fast, Kind::Unprotect));
        cases.push((Who::Slow, Kind::Rtp));
        cases.push((Who::Slow, Kind::Unprotect));
    }
    cases.push((Who::Rtpengine, Kind::Rtp));
    for (who, kind) in cases {
        let case = format!("{}_{}", who.name(), kind.name());
        let stamp = Stamp::of(kind);
        let started = who.bench(topology, kind, Family::V4, plan.payload, stamp);
        let mut bench = match started {
            Ok(bench) => bench,
            // As long as the kernel does not take such calls, they are the slow path's.
            Err(why) if who == Who::Fast && kind != Kind::Rtp => {
                report.skip(&format!("{case}_recovered_loss"), "%", &why.to_string());
                continue;
            }
            Err(why) => return Err(why),
        };
        // Ten times the load is no overload where the machine serves it.
        let served = report.median(&case).filter(|_| who != Who::Fast);
        let overloaded = bench.overloaded(served.unwrap_or(0.0))?;
        note(report, &case, "recovered", overloaded);
        if who == Who::Rtpengine {
            let lost = overloaded.loss_percent;
            report.figure("rtpengine_recovered_loss_percent", Some(lost));
            if plan.quick {
                continue;
            }
            // It does not come back: the next trouble finds a fresh one.
            drop(bench);
            bench = who.bench(topology, kind, Family::V4, plan.payload, stamp)?;
        }
        let stopped = bench.stopped()?;
        note(report, &case, "stopped", stopped);
        if who == Who::Rtpengine {
            continue;
        }
        for recovery in [overloaded, stopped] {
            for (figure, value) in [
                ("recovered_loss_percent", recovery.loss_percent),
                ("recovered_stale_packets", recovery.stale as f64),
                ("recovered_resident_percent", recovery.resident_percent),
                ("recovered_calls_gone", recovery.calls_gone as f64),
            ] {
                let worst = report.figures.get(figure).copied().flatten();
                report.figure(figure, Some(worst.map_or(value, |worst| worst.max(value))));
            }
        }
    }
    Ok(())
}

fn note(report: &mut Report, case: &str, trouble: &str, recovery: Recovery) {
    let name = |what: &str| format!("{case}_{trouble}_{what}");
    report.note(&name("loss"), "%", recovery.loss_percent);
    report.note(&name("stale"), "packets", recovery.stale as f64);
    report.note(&name("resident"), "%", recovery.resident_percent);
    report.note(&name("calls_gone"), "calls", recovery.calls_gone as f64);
}
