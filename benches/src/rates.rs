//! Packets per second: the fast path beside the bare redirect, the slow path beside rtpengine.

use std::time::Duration;

use relay_user::{
    measure::{
        Bench, CallChain, Chain, Failure, Kind, Latencies, Process, Relay, Scene, Search, Served,
        Service, Stamp, Topology,
    },
    media::Family,
};

use crate::{Plan, peer::Rtpengine, report::Report};

/// Who relays by a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Trunkline's fast path, under a load that is paced.
    Fast,
    /// Trunkline's slow path.
    Slow,
    /// With another CPU that takes packets from the device for it, which leaves it more.
    Rtpengine,
    /// On one CPU, what it takes to receive included.
    RtpengineAlone,
}

impl Who {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Rtpengine => "rtpengine",
            Self::RtpengineAlone => "rtpengine_alone",
        }
    }

    /// Starts the relay alone.
    fn start<'a>(
        self,
        topology: &Topology,
        kind: Kind,
        family: Family,
    ) -> Result<Box<dyn Process + 'a>, Failure> {
        let fast = self == Self::Fast;
        Ok(match self {
            Self::Rtpengine | Self::RtpengineAlone => {
                let alone = self == Self::RtpengineAlone;
                Box::new(Rtpengine::start(topology, kind, family, alone)?)
            }
            Self::Fast | Self::Slow => {
                Box::new(Served::start(topology, Service { fast, kind, family })?)
            }
        })
    }

    /// Sets it up, with the load.
    pub fn bench(
        self,
        topology: &Topology,
        kind: Kind,
        family: Family,
        payload: usize,
        stamp: Stamp,
    ) -> Result<Bench<'_>, Failure> {
        let relay = self.start(topology, kind, family)?;
        let scene = Scene {
            fast: self == Self::Fast,
            kind,
            family,
            payload,
            stamp,
        };
        Bench::new(topology, relay, scene)
    }
}

/// Each number of flows, ours and the limit in turn.
pub fn fast(topology: &Topology, plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let mut cases = vec![(Family::V4, 1), (Family::V4, 100_000)];
    if !plan.quick {
        cases.extend([
            (Family::V4, 1_000),
            (Family::V4, 10_000),
            (Family::V6, 1),
            (Family::V6, 100_000),
        ]);
    } else {
        cases.extend([(Family::V4, 1_000), (Family::V4, 10_000)]);
    }
    cases.sort_by_key(|(family, flows)| (*family == Family::V6, *flows));
    for _ in 0..plan.rounds {
        for (family, flows) in &cases {
            for (relay, name) in [(Relay::Limit, "limit"), (Relay::Trunkline, "fast")] {
                let mut chain = Chain::new(topology, relay, *family, *flows, plan.payload, false)?;
                chain.run(topology, 1 << 17)?;
                let run = chain.run(topology, plan.packets)?;
                let name = format!("{name}_{flows}{}", suffix(*family));
                report.note(&name, "packets/s", run.rate());
                let lost = (run.sent - run.arrived) as f64 / run.sent as f64;
                report.note(&format!("{name}_loss"), "%", lost * 100.0);
            }
        }
    }
    for (family, flows) in &cases {
        let suffix = suffix(*family);
        report.ratio(
            &format!("fast_vs_limit_{flows}{suffix}"),
            &format!("fast_{flows}{suffix}"),
            &format!("limit_{flows}{suffix}"),
        );
    }
    if let (Some(fast), Some(limit)) = (report.median("fast_1"), report.median("limit_1")) {
        report.figure("fast_relay_ns", Some(1e9 / fast - 1e9 / limit));
    }
    Ok(())
}

const fn suffix(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => "_ipv6",
    }
}

/// The calls with SRTP on one leg through the XDP program, and the bare redirect under the same
/// load.
pub fn fast_srtp(topology: &Topology, plan: Plan, report: &mut Report) {
    for _ in 0..if plan.quick { 2 } else { plan.rounds } {
        for kind in [Kind::Protect, Kind::Unprotect] {
            for (limit, name) in [(true, "limit"), (false, "fast")] {
                let name = format!("{name}_{}", kind.name());
                if report.not_measured.contains_key(&name) {
                    continue;
                }
                let ran =
                    CallChain::new(topology, kind, limit, plan.payload).and_then(|mut chain| {
                        chain.run(topology, 1 << 16)?;
                        chain.run(topology, (plan.packets / 2).min(1 << 20))
                    });
                match ran {
                    Ok(run) => {
                        report.note(&name, "packets/s", run.rate());
                        let lost = (run.sent - run.arrived) as f64 / run.sent as f64;
                        report.note(&format!("{name}_loss"), "%", lost * 100.0);
                    }
                    Err(why) => report.skip(&name, "packets/s", &why.to_string()),
                }
            }
        }
    }
}

/// Each kind of call, ours and rtpengine's two in turn.
pub fn slow(topology: &Topology, plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let mut cases = Kind::ALL.map(|kind| (kind, Family::V4)).to_vec();
    if !plan.quick {
        cases.push((Kind::Rtp, Family::V6));
    }
    cases.retain(|(kind, _)| plan.kind.is_none_or(|only| only == *kind));
    for round in 0..plan.searches {
        for (kind, family) in &cases {
            // The other family tells nothing about the spread that the first does not.
            if round > 1 && *family == Family::V6 {
                continue;
            }
            for who in [Who::Slow, Who::Rtpengine, Who::RtpengineAlone] {
                // It stands beside the fast path, whose calls of a kind are IPv4 alone.
                if who == Who::RtpengineAlone && *family == Family::V6 {
                    continue;
                }
                let name = format!("{}_{}{}", who.name(), kind.name(), suffix(*family));
                // After the first round it is known where to look.
                let search = match report.median(&name) {
                    Some(rate) => Search {
                        from: rate,
                        step: 1.04,
                        near: 1.045,
                        duration: plan.trial,
                    },
                    None => Search {
                        from: 250_000.0,
                        step: 1.4,
                        near: if plan.quick { 1.05 } else { 1.03 },
                        duration: plan.trial,
                    },
                };
                let mut bench = who.bench(topology, *kind, *family, plan.payload, Stamp::None)?;
                let rate =
                    search.highest_rate(&mut bench, || who.start(topology, *kind, *family))?;
                report.note(&name, "packets/s", rate);
            }
        }
    }
    for kind in Kind::ALL {
        if plan.kind.is_some_and(|only| only != kind) {
            let row = format!("slow_vs_rtpengine_{}", kind.name());
            let why = "its kind of calls was not asked for";
            report.not_measured.insert(row, why.to_owned());
        }
    }
    for (kind, family) in &cases {
        let case = format!("{}{}", kind.name(), suffix(*family));
        report.ratio(
            &format!("slow_vs_rtpengine_{case}"),
            &format!("slow_{case}"),
            &format!("rtpengine_{case}"),
        );
    }
    for (kind, fast) in [
        (Kind::Rtp, "fast_1"),
        (Kind::Protect, "fast_protect"),
        (Kind::Unprotect, "fast_unprotect"),
    ] {
        let kind = kind.name();
        // The fast path's one CPU makes and counts the packets besides.
        for (ratio, peer) in [
            ("fast_vs_rtpengine", Who::RtpengineAlone),
            ("fast_vs_rtpengine_helped", Who::Rtpengine),
        ] {
            report.ratio(
                &format!("{ratio}_{kind}"),
                fast,
                &format!("{}_{kind}", peer.name()),
            );
        }
    }
    Ok(())
}

/// What each adds at half of what it serves, from the generator's clock to the sink's.
pub fn latencies(topology: &Topology, plan: Plan, report: &mut Report) -> Result<(), Failure> {
    for _ in 0..plan.latencies {
        for who in [Who::Slow, Who::Rtpengine] {
            let Some(most) = report.median(&format!("{}_rtp", who.name())) else {
                report.skip(
                    &format!("{}_latency_p99", who.name()),
                    "µs",
                    "the rate that it serves is not known",
                );
                continue;
            };
            let mut bench = who.bench(
                topology,
                Kind::Rtp,
                Family::V4,
                plan.payload,
                Stamp::Payload,
            )?;
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
            let latencies = chain.latencies(topology, most / 2.0, Duration::from_millis(700))?;
            note_latencies(report, "fast", &latencies)?;
        } else {
            report.skip(
                "fast_latency_p99",
                "µs",
                "the rate that it serves is not known",
            );
        }
    }
    for (figure, row) in [
        ("fast_latency_p99_us", "fast_latency_p99"),
        ("slow_latency_p99_us", "slow_latency_p99"),
        ("rtpengine_latency_p99_us", "rtpengine_latency_p99"),
    ] {
        report.figure(figure, report.median(row));
        if let Some(why) = report.not_measured.get(row).cloned() {
            report.not_measured.insert(figure.to_owned(), why);
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
