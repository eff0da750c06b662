//! The document that the full run writes: the machine, the ratios and figures against what is
//! wanted of them, charts, and every row.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use relay_user::measure::Machine;

use crate::{
    report::{Report, Row, shown},
    wanted::{Bound, FIGURES, RATIOS},
};

/// The file of a chart, beside the page.
pub fn beside(page: &Path, name: &str) -> PathBuf {
    let stem = page.file_stem().unwrap_or_default().to_string_lossy();
    page.with_file_name(format!("{stem}{name}.svg"))
}

/// The whole document, which will be at `page`.
pub fn document(report: &Report, machine: &Machine, page: &Path) -> String {
    let mut text = format!(
        "# Benchmarks\n\n\
         One command measured all of this in one run, and wrote this page:\n\n\
         ```\nsudo -E cargo xtask bench\n```\n\n\
         Machine: {}, {} CPUs, Linux {}. Absolute figures are this machine's; the ratios, taken \
         within the same round, are the result. Spread says how quiet the machine was.\n\n\
         {REPEAT}\n## How\n\n{HOW}\n## Ratios\n\n| | median | least | greatest | wanted | |\n\
         | --- | ---: | ---: | ---: | --- | --- |\n",
        machine.processor, machine.cpus, machine.kernel
    );
    for wanted in &RATIOS {
        let found = report.ratios.iter().find(|row| row.name == wanted.name);
        let median = found.and_then(|row| row.median);
        let _ = writeln!(
            text,
            "| {} (`{}`) | {} | {} | {} |",
            wanted.what,
            wanted.name,
            found.map_or_else(|| unmeasured(report, wanted.name), values),
            told(wanted.bound),
            median.map_or("", |median| verdict(median, wanted.bound))
        );
    }
    let chart = |name| {
        let file = beside(page, name);
        file.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let _ = write!(
        text,
        "\n![Rates by flows]({})\n\n![Latencies]({})\n\n## Figures\n\n\
         | | measured | wanted | |\n| --- | ---: | --- | --- |\n",
        chart(""),
        chart("-latency"),
    );
    for wanted in &FIGURES {
        let value = report.figures.get(wanted.name).copied().flatten();
        let _ = writeln!(
            text,
            "| {} (`{}`) | {} | {} | {} |",
            wanted.what,
            wanted.name,
            value.map_or_else(|| unmeasured(report, wanted.name), shown),
            told(wanted.bound),
            value.map_or("", |value| verdict(value, wanted.bound))
        );
    }
    text.push_str(
        "\nWhat four times rtpengine's rate in userspace would take: see [the slow path](slow-path.md).\n\
         \n## Every row\n\n| row | unit | median | least | greatest | rounds |\n\
         | --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    for row in &report.rows {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            row.name,
            row.unit,
            values(row),
            row.rounds
        );
    }
    text
}

fn values(row: &Row) -> String {
    match (row.median, row.min, row.max) {
        (Some(median), Some(min), Some(max)) => {
            format!("{} | {} | {}", shown(median), shown(min), shown(max))
        }
        _ => {
            let why = row.why.as_deref().unwrap_or("no round came to an end");
            format!("not measured: {} | | ", plain(why))
        }
    }
}

fn unmeasured(report: &Report, name: &str) -> String {
    let why = report.not_measured.get(name).map_or("", String::as_str);
    format!("not measured: {}", plain(why))
}

/// A reason as a cell of a table.
fn plain(why: &str) -> String {
    why.replace('|', "/").replace('\n', " ")
}

const REPEAT: &str = "\
`--quick` takes fewer and shorter rounds, about four minutes, and leaves the page alone; `--json \
FILE` writes every row, ratio and figure. The program behind it is `target/release/bench`: `--only \
fast,slow` measures parts of it. `cargo bench -p benches` times what sits inside (parsing, \
rewriting, checksums, SRTP, SDP, SIP, the flow table). `trunkline bench` measures a \
machine without the sources: the bare redirect, the fast path with and without SRTP, the slow path \
and the programs' cost; with `--between eth0,eth1` the first two between interfaces of its own \
that a cable joins. `trunkline bench --help` tells how.
";

const HOW: &str = "\
- Two network namespaces are joined by two veth pairs: load → relay → load. Packets are G.711 of 20 ms (160 octets of payload); `--payload` takes another size.
- Fast path and limit: one CPU makes the packets (live test-run frames, every header written afresh), relays them and counts them. The limit is a bare redirect by device map, which looks nothing up and rewrites nothing. Ours and the limit take turns; 2^20 packets a round.
- SRTP on the fast path (`fast_protect`, `fast_unprotect`): 500 calls set up through the whole media plane, one CPU for all of it, again beside the bare redirect under the same load (`limit_protect`, `limit_unprotect`: what making and counting such packets takes). The packets are protected beforehand, one after the other, and each call sends each of them once, so that no replay window stands in the way; a copy of the packet is part of the chain. A run of which more than 1% did not go by XDP is no result.
- Slow path and rtpengine: 500 calls, the generator on CPU 0, the relay with its receive processing on CPU 1, the sink on CPU 2. Both relays' device hands on what came in every 50 µs (`napi_defer_hard_irqs`, `gro_flush_timeout`), as a NIC with moderated interrupts does. For the slow path a timer of CPU 1 takes the packets from the device, so that the XDP program and the filling of the worker's ring count. rtpengine is measured twice. Beside the fast path, which has one CPU for everything, the load's generator and sink included, rtpengine has one for itself in the same way (`rtpengine_alone_…`). Beside the slow path CPU 0 takes its packets from the device and the stack has them on CPU 1 (receive packet steering), which leaves it more (`rtpengine_…`); what the fast path does beside that is told as `fast_vs_rtpengine_helped_…`. Threads that run where nothing else does keep CPUs 1 and 2 from halting, since a virtual one takes its time to come again. The slow path is the whole media plane in a process of its own, with one worker; its calls negotiate nine payload types, more than the XDP program's table holds, which leaves them to the worker. The highest rate under 0.1% loss is searched for by steps and then by halving; a failed trial is repeated before it is believed, and a relay that was overloaded is started afresh. rtpengine is Debian's, in userspace, one thread, its calls set up by its own control protocol. Rates from two rounds on are looked for around those of the first.
- Latency is from the generator's clock in the payload to the sink's, at half of each one's rate.
- Overload (`…_recovered_…`): 500 calls at 20,000 packets a second, ten times that for three seconds, or twice the rate that the relay serves if that is more, then 20,000 again; from one second later on losses are counted. Stop (`…_stopped_…`): the same, with the relay's process stopped for three seconds (SIGSTOP, SIGCONT) at 20,000 packets a second. Each packet carries its time of sending (where SRTP hides the payload, in a header extension): `stale` are those that were sent on later than 200 ms, from the trouble's beginning. `resident` is the change of the process's resident memory, `calls_gone` what it no longer knows of its 500 calls.
- Calls: SIPp on both sides, on the same CPUs. A call that is not answered within four seconds, or whose BYE is not, has failed. The rate is raised until a call has failed twice over, and then halved towards the last good one; what is added to post-dial delay is measured three times at half of that.
- Memory: calls held, half a minute after the last one was set up, so that what SIP remembers of ended transactions is gone. Their legs are RTP; the kernel's tables have room for all their flows and for 1,000 SRTP streams (`trunkline check` tells what more room takes).
- Cost (`…_ns`): the programs by test run, 1,000 times 50 packets, the median; `xdp_protect_ns` and `xdp_unprotect_ns` are of the programs that calls use, behind the relay, 32 times 500 packets one after the other, less what giving them takes; `libsrtp_…` likewise. They are of one stream, whose key and code stay at hand; `…_streams_ns` are of 1,000 streams by turns, each with a row and a context of its own, 32 times a packet of each. `…_verified` is how many instructions the verifier followed, beside the checked-in value.
- `torture_parse_worst_us`: each of RFC 4475's 49 messages is parsed 2,000 times, the least time counts, and the dearest message's is told.
- The sink hands one frame in 4096 over whole. Addresses, ports, checksums (by a parser that is not ours), RTP fields and payload are compared with what they should be, SRTP is authenticated and decrypted, and a wrong packet ends its part of the run as a failure.
";

fn told(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(value) => format!("≥ {}", shown(value)),
        Bound::AtMost(value) => format!("≤ {}", shown(value)),
        Bound::Told => String::new(),
    }
}

fn verdict(value: f64, bound: Bound) -> &'static str {
    let met = match bound {
        Bound::AtLeast(least) => value >= least,
        Bound::AtMost(most) => value <= most,
        Bound::Told => return "",
    };
    if met { "met" } else { "**not met**" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_and_what_is_missing_is_said() {
        let mut report = Report::default();
        report.note("fast_1", "packets/s", 4.0);
        report.note("limit_1", "packets/s", 8.0);
        report.ratio("fast_vs_limit_1", "fast_1", "limit_1");
        report.skip("fast_protect", "packets/s", "no keys | no rows");
        report.figure("fast_latency_p99_us", Some(12.0));
        report.close(|_| false);
        let machine = Machine {
            processor: "a processor".to_owned(),
            cpus: 4,
            kernel: "6.18".to_owned(),
        };
        let text = document(&report, &machine, Path::new("docs/page.md"));
        let line = |what: &str| {
            let found = text.lines().find(|line| line.contains(what));
            found.expect("a line").to_owned()
        };
        assert!(line("(`fast_vs_limit_1`)").contains("**not met**"));
        assert!(line("(`fast_latency_p99_us`)").ends_with("| met |"));
        assert!(line("(`slow_vs_rtpengine_rtp`)").contains("not measured: it was not asked for"));
        assert!(line("| `fast_protect`").contains("not measured: no keys / no rows"));
        assert!(text.contains("(page.svg)") && text.contains("(page-latency.svg)"));
    }
}
