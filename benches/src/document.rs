//! The document that the full run writes: the machine, the table, the ratios against what is
//! wanted of them, and a chart.

use std::fmt::Write as _;

use crate::{
    report::{Report, shown},
    topology::Machine,
};

/// What a ratio or figure is wanted to be.
#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

const RATIOS: [(&str, Wanted, &str); 6] = [
    (
        "fast_vs_limit_1",
        Wanted::AtLeast(0.80),
        "fast path ÷ bare redirect, one flow",
    ),
    (
        "fast_vs_limit_100000",
        Wanted::AtLeast(0.65),
        "fast path ÷ bare redirect, 100,000 flows",
    ),
    (
        "fast_vs_rtpengine_rtp",
        Wanted::AtLeast(15.0),
        "fast path on one CPU ÷ rtpengine on one, RTP to RTP",
    ),
    (
        "slow_vs_rtpengine_rtp",
        Wanted::AtLeast(1.7),
        "slow path ÷ rtpengine, RTP to RTP",
    ),
    (
        "slow_vs_rtpengine_protect",
        Wanted::AtLeast(1.7),
        "slow path ÷ rtpengine, RTP to SRTP",
    ),
    (
        "slow_vs_rtpengine_unprotect",
        Wanted::AtLeast(1.7),
        "slow path ÷ rtpengine, SRTP to RTP",
    ),
];

const FIGURES: [(&str, Wanted, &str); 4] = [
    (
        "fast_relay_ns",
        Wanted::AtMost(120.0),
        "what the fast path adds to a packet's chain, one flow, ns",
    ),
    (
        "fast_latency_p99_us",
        Wanted::AtMost(50.0),
        "fast path's p99 at half of its rate, µs",
    ),
    (
        "slow_latency_p99_us",
        Wanted::AtMost(500.0),
        "slow path's p99 at half of its rate, µs",
    ),
    (
        "recovered_loss_percent",
        Wanted::AtMost(0.1),
        "loss from one second after an overload, the worst of both paths, %",
    ),
];

/// The whole document.
pub fn document(report: &Report, machine: &Machine, chart: &str) -> String {
    let mut text = format!(
        "# Benchmarks\n\n\
         One command measured all of this in one run, and wrote this page:\n\n\
         ```\nsudo -E cargo xtask bench\n```\n\n\
         `--quick` takes fewer and shorter rounds and leaves the page alone; `--json FILE` writes \
         every row. Machine: {}, {} CPUs, Linux {}. Absolute figures are this machine's; the \
         ratios, taken within the same round, are the result. Spread says how quiet the machine \
         was.\n\n## How\n\n{HOW}\n## Ratios\n\n| | median | least | greatest | wanted | |\n\
         | --- | ---: | ---: | ---: | --- | --- |\n",
        machine.processor, machine.cpus, machine.kernel
    );
    for (name, wanted, what) in RATIOS {
        let found = report.ratios.iter().find(|row| row.name == name);
        let (values, verdict) = match found {
            Some(row) => (
                format!(
                    "{} | {} | {}",
                    shown(row.median),
                    shown(row.min),
                    shown(row.max)
                ),
                verdict(row.median, wanted),
            ),
            None => ("not measured | | ".to_owned(), ""),
        };
        let _ = writeln!(
            text,
            "| {what} (`{name}`) | {values} | {} | {verdict} |",
            told(wanted)
        );
    }
    let _ = write!(
        text,
        "\n![Rates by flows]({chart})\n\n## Figures\n\n| | measured | wanted | |\n| --- | ---: | --- | --- |\n"
    );
    for (name, wanted, what) in FIGURES {
        let (value, verdict) = match report.figures.get(name) {
            Some(value) => (shown(*value), verdict(*value, wanted)),
            None => ("not measured".to_owned(), ""),
        };
        let _ = writeln!(
            text,
            "| {what} (`{name}`) | {value} | {} | {verdict} |",
            told(wanted)
        );
    }
    if let Some(theirs) = report.figures.get("rtpengine_recovered_loss_percent") {
        let _ = writeln!(
            text,
            "| rtpengine's loss after the same overload, % (`rtpengine_recovered_loss_percent`) | {} | | |",
            shown(*theirs)
        );
    }
    text.push_str(
        "\n## Every row\n\n| row | unit | median | least | greatest | rounds |\n\
         | --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    for row in &report.rows {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            row.name,
            row.unit,
            shown(row.median),
            shown(row.min),
            shown(row.max),
            row.rounds
        );
    }
    text
}

const HOW: &str = "\
- Two network namespaces are joined by two veth pairs: load → relay → load. Packets are G.711 of 20 ms (160 octets of payload); `--payload` takes another size.
- Fast path and limit: one CPU makes the packets (live test-run frames, every header written afresh), relays them and counts them. The limit is a bare redirect by device map, which looks nothing up and rewrites nothing. Ours and the limit take turns; 2^21 packets a round.
- Slow path and rtpengine: 500 calls, the generator on CPU 0, the relay with its receive processing (receive packet steering) on CPU 1, the sink on CPU 2. The highest rate under 0.1% loss is searched for by bisection; a relay that was overloaded is started afresh. rtpengine is Debian's, in userspace, one thread, its calls set up by its own control protocol.
- Latency is from the generator's clock in the payload to the sink's, at half of each one's rate.
- Overload: 500 calls at 20,000 packets a second, ten times that for three seconds, or twice the rate that the relay serves if that is more, then 20,000 again; from one second later on losses are counted.
- The sink hands one frame in 4096 over whole. Addresses, ports, checksums (by a parser that is not ours), RTP fields and payload are compared with what they should be, SRTP is authenticated and decrypted, and a wrong packet ends the run as a failure.
";

fn told(wanted: Wanted) -> String {
    match wanted {
        Wanted::AtLeast(value) => format!("≥ {}", shown(value)),
        Wanted::AtMost(value) => format!("≤ {}", shown(value)),
    }
}

fn verdict(value: f64, wanted: Wanted) -> &'static str {
    let met = match wanted {
        Wanted::AtLeast(least) => value >= least,
        Wanted::AtMost(most) => value <= most,
    };
    if met { "met" } else { "**not met**" }
}

/// A chart of the fast path's and the limit's rates against the number of flows, as SVG.
pub fn chart(report: &Report) -> String {
    const FLOWS: [u32; 4] = [1, 1_000, 10_000, 100_000];
    let rates = |who: &str| FLOWS.map(|flows| report.median(&format!("{who}_{flows}")));
    let all = [
        ("limit", "#888", rates("limit")),
        ("fast", "#06c", rates("fast")),
    ];
    let most = all
        .iter()
        .flat_map(|(_, _, rates)| rates.iter().flatten())
        .fold(1.0f64, |most, rate| most.max(*rate));
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 560 320\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"560\" height=\"320\" fill=\"white\"/>\n\
         <text x=\"20\" y=\"20\">Millions of packets a second on one CPU, by flows</text>\n",
    );
    for (index, flows) in FLOWS.iter().enumerate() {
        let left = 40 + index * 130;
        let _ = writeln!(svg, "<text x=\"{}\" y=\"305\">{flows}</text>", left + 30);
        for (place, (who, colour, rates)) in all.iter().enumerate() {
            let Some(rate) = rates.get(index).copied().flatten() else {
                continue;
            };
            let height = rate / most * 230.0;
            let (x, y) = (left + place * 50, 285.0 - height);
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y:.1}\" width=\"44\" height=\"{height:.1}\" fill=\"{colour}\"/>\
                 <text x=\"{x}\" y=\"{:.1}\">{:.2} {who}</text>",
                y - 4.0,
                rate / 1e6
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
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
        report.figures.insert("fast_latency_p99_us", 12.0);
        report.close();
        let machine = Machine {
            processor: "a processor".to_owned(),
            cpus: 4,
            kernel: "6.18".to_owned(),
        };
        let text = document(&report, &machine, "chart.svg");
        let line = |what: &str| {
            let found = text.lines().find(|line| line.contains(what));
            found.expect("a line").to_owned()
        };
        assert!(line("`fast_vs_limit_1`").contains("**not met**"));
        assert!(line("`fast_latency_p99_us`").ends_with("| met |"));
        assert!(line("`slow_vs_rtpengine_rtp`").contains("not measured"));
        assert!(chart(&report).contains("0.00 fast"));
    }
}
