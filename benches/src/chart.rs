//! The page's charts, as SVG.

use std::fmt::Write as _;

use crate::report::Report;

/// Each chart, and what its file's name ends with.
pub fn all(report: &Report) -> [(&'static str, String); 2] {
    [("", rates(report)), ("-latency", latencies(report))]
}

struct Bar {
    who: &'static str,
    figure: String,
    colour: &'static str,
    value: f64,
}

/// Groups of bars under a title. `height` gives a value's share of the full height.
fn chart(title: &str, groups: &[(String, Vec<Bar>)], height: impl Fn(f64) -> f64) -> String {
    const WIDTH: usize = 150;
    const BAR: usize = 46;
    const GAP: usize = 6;
    let width = 40 + groups.len() * WIDTH;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} 320\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"320\" fill=\"white\"/>\n\
         <text x=\"20\" y=\"20\" font-size=\"13\">{title}</text>\n"
    );
    for (index, (name, bars)) in groups.iter().enumerate() {
        let left = 30 + index * WIDTH;
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"308\">{name}</text>");
        for (place, bar) in bars.iter().enumerate() {
            let tall = height(bar.value).clamp(0.0, 1.0) * 230.0;
            let (x, y) = (left + place * BAR, 290.0 - tall);
            let middle = x + (BAR - GAP) / 2;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y:.1}\" width=\"{}\" height=\"{tall:.1}\" fill=\"{}\"/>\
                 <g text-anchor=\"middle\">\
                 <text x=\"{middle}\" y=\"{:.1}\">{}</text>\
                 <text x=\"{middle}\" y=\"{:.1}\" font-size=\"9\">{}</text></g>",
                BAR - GAP,
                bar.colour,
                y - 4.0,
                bar.figure,
                y - 16.0,
                bar.who
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The fast path's and the limit's rates against the number of flows.
fn rates(report: &Report) -> String {
    let groups: Vec<_> = [1, 1_000, 10_000, 100_000]
        .into_iter()
        .map(|flows: u32| {
            let bars = [("limit", "#999"), ("fast", "#06c")]
                .into_iter()
                .filter_map(|(who, colour)| {
                    let value = report.median(&format!("{who}_{flows}"))?;
                    Some(Bar {
                        who,
                        figure: format!("{:.2}", value / 1e6),
                        colour,
                        value,
                    })
                })
                .collect();
            let noun = if flows == 1 { "flow" } else { "flows" };
            (format!("{flows} {noun}"), bars)
        })
        .collect();
    let most = most(&groups);
    let title = "Millions of packets a second on one CPU, by flows";
    chart(title, &groups, |value| value / most)
}

/// What each relay adds at half of its rate, on a scale of powers of ten from 1 µs.
fn latencies(report: &Report) -> String {
    let groups: Vec<_> = [("p50", "p50"), ("p99", "p99"), ("p99_9", "p99.9")]
        .into_iter()
        .map(|(quantile, name)| {
            let bars = [("fast", "#06c"), ("slow", "#093"), ("rtpengine", "#c60")]
                .into_iter()
                .filter_map(|(who, colour)| {
                    let value = report.median(&format!("{who}_latency_{quantile}"))?;
                    Some(Bar {
                        who,
                        figure: format!("{value:.0}"),
                        colour,
                        value,
                    })
                })
                .collect();
            (name.to_owned(), bars)
        })
        .collect();
    let decades = most(&groups).log10().max(1.0);
    let title = "Latency at half of each one's rate, µs, logarithmic";
    chart(title, &groups, |value| value.max(1.0).log10() / decades)
}

fn most(groups: &[(String, Vec<Bar>)]) -> f64 {
    let values = groups.iter().flat_map(|(_, bars)| bars);
    values.map(|bar| bar.value).fold(1.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_drawn() {
        let mut report = Report::default();
        report.note("fast_1", "packets/s", 4_000_000.0);
        report.note("slow_latency_p99", "µs", 300.0);
        let [(_, rates), (_, latencies)] = all(&report);
        assert!(rates.contains(">4.00<") && rates.contains(">fast<") && !rates.contains("limit<"));
        assert!(latencies.contains(">300<") && latencies.contains(">slow<"));
        assert!(!latencies.contains("fast<"));
    }
}
