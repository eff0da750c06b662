//! Reports as tables for a terminal.

use std::fmt::Write as _;

use super::protocol::{CallReport, FlowReport, StatisticsReport, StreamReport, TrunkReport};

/// Columns as wide as what is in them, two spaces apart. Columns of numbers are set to the right.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    let mut numbers = vec![!rows.is_empty(); head.len()];
    for row in rows {
        for ((width, number), cell) in widths.iter_mut().zip(&mut numbers).zip(row) {
            *width = (*width).max(cell.chars().count());
            *number &= cell.is_empty()
                || cell.starts_with(|first: char| first.is_ascii_digit())
                    && cell.parse::<f64>().is_ok();
        }
    }
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((cell, width), number) in row.iter().zip(&widths).zip(&numbers) {
            let _ = if *number {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Hours, minutes and seconds.
fn duration(seconds: u64) -> String {
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// What a peer sent may hold anything; a terminal gets no control characters.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .collect()
}

fn optional(text: Option<&String>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| plain(text))
}

fn path(path: &str, reason: Option<&String>) -> String {
    match reason {
        Some(reason) => format!("{path} ({reason})"),
        None => path.to_owned(),
    }
}

/// `trunkline calls`.
#[must_use]
pub fn calls_table(calls: &[CallReport]) -> String {
    if calls.is_empty() {
        return "no calls\n".to_owned();
    }
    let rows: Vec<_> = calls
        .iter()
        .map(|call| {
            let packets = |stream: Option<&StreamReport>| {
                stream.map_or_else(String::new, |stream| {
                    (stream.packets_xdp + stream.packets_userspace).to_string()
                })
            };
            let mut paths: Vec<_> = call
                .streams
                .iter()
                .map(|stream| path(&stream.path, stream.reason.as_ref()))
                .collect();
            paths.dedup();
            vec![
                call.id.to_string(),
                plain(&call.state) + if call.held { " (held)" } else { "" },
                duration(call.age),
                call.caller.trunk.clone(),
                optional(call.from.as_ref()),
                call.callee.trunk.clone(),
                plain(&call.to),
                optional(call.codec.as_ref()),
                if paths.is_empty() {
                    "-".to_owned()
                } else {
                    paths.join(", ")
                },
                packets(call.streams.first()),
                packets(call.streams.get(1)),
            ]
        })
        .collect();
    table(
        &[
            "ID", "STATE", "AGE", "FROM", "NUMBER", "TO", "NUMBER", "CODEC", "PATH", "THERE",
            "BACK",
        ],
        &rows,
    )
}

/// `trunkline call ID`.
#[must_use]
pub fn call_table(call: &CallReport) -> String {
    let mut text = format!(
        "call {}: {}{}\nfrom {} to {}, {} old, {}\ncodec {}\n\n",
        call.id,
        plain(&call.state),
        if call.held { ", held" } else { "" },
        optional(call.from.as_ref()),
        plain(&call.to),
        duration(call.age),
        call.answered.map_or_else(
            || "not answered".to_owned(),
            |answered| format!("answered {} ago", duration(answered))
        ),
        optional(call.codec.as_ref()),
    );
    let legs: Vec<_> = [("caller", &call.caller), ("callee", &call.callee)]
        .into_iter()
        .map(|(side, leg)| {
            vec![
                side.to_owned(),
                leg.trunk.clone(),
                leg.remote.clone(),
                optional(leg.media.as_ref()),
                plain(&leg.call_id),
            ]
        })
        .collect();
    text += &table(
        &["LEG", "TRUNK", "SIGNALLING", "OUR MEDIA", "CALL-ID"],
        &legs,
    );
    if !call.streams.is_empty() {
        let streams: Vec<_> = call
            .streams
            .iter()
            .map(|stream| {
                vec![
                    stream.direction.clone(),
                    path(&stream.path, stream.reason.as_ref()),
                    stream.state.clone(),
                    optional(stream.peer.as_ref()),
                    stream.packets_xdp.to_string(),
                    stream.packets_userspace.to_string(),
                    stream.octets.to_string(),
                    stream.dropped.to_string(),
                    stream.lost.to_string(),
                    format!("{:.2}", stream.jitter_ms),
                    stream
                        .mos
                        .map_or_else(String::new, |mos| format!("{mos:.2}")),
                    match stream.srtp_alarm {
                        true => format!("{} (alarm)", stream.srtp_failures),
                        false => stream.srtp_failures.to_string(),
                    },
                ]
            })
            .collect();
        text.push('\n');
        text += &table(
            &[
                "STREAM",
                "PATH",
                "STATE",
                "PEER",
                "XDP",
                "USERSPACE",
                "OCTETS",
                "DROPPED",
                "LOST",
                "JITTER MS",
                "MOS",
                "SRTP FAILURES",
            ],
            &streams,
        );
    }
    text
}

/// `trunkline flows`.
#[must_use]
pub fn flows_table(flows: &[FlowReport]) -> String {
    if flows.is_empty() {
        return "no flows\n".to_owned();
    }
    let rows: Vec<_> = flows
        .iter()
        .map(|flow| {
            vec![
                flow.call.to_string(),
                flow.local.clone(),
                optional(flow.peer.as_ref()),
                optional(flow.destination.as_ref()),
                path(&flow.path, flow.reason.as_ref()),
                flow.packets_xdp.to_string(),
                flow.packets_userspace.to_string(),
                flow.dropped.to_string(),
            ]
        })
        .collect();
    table(
        &[
            "CALL",
            "LOCAL",
            "PEER",
            "TO",
            "PATH",
            "XDP",
            "USERSPACE",
            "DROPPED",
        ],
        &rows,
    )
}

/// `trunkline trunks`.
#[must_use]
pub fn trunks_table(trunks: &[TrunkReport]) -> String {
    if trunks.is_empty() {
        return "no trunks\n".to_owned();
    }
    let mut rows = Vec::new();
    for trunk in trunks {
        let interval = trunk
            .options_interval
            .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s"));
        if trunk.addresses.is_empty() {
            let mut row = vec![trunk.name.clone(), "-".to_owned()];
            row.resize(11, String::new());
            row.push(interval.clone());
            row.push(trunk.calls.to_string());
            rows.push(row);
        }
        for address in &trunk.addresses {
            let seconds = |at: Option<u64>| at.map_or_else(|| "-".to_owned(), duration);
            let mut why = address.why.clone().unwrap_or_default();
            if let Some(left) = address.retry_after {
                let _ = write!(why, ", wants {left} s more");
            }
            rows.push(vec![
                trunk.name.clone(),
                match &address.name {
                    Some(name) => format!("{} ({name})", address.address),
                    None => address.address.clone(),
                },
                address.priority.clone(),
                address.weight.to_string(),
                address.state.clone(),
                why,
                seconds(address.since),
                optional(address.answer.as_ref()),
                seconds(address.answered),
                seconds(address.heard),
                address
                    .round_trip_ms
                    .map_or_else(String::new, |time| format!("{time:.2}")),
                interval.clone(),
                address.calls.to_string(),
            ]);
        }
    }
    let mut text = table(
        &[
            "TRUNK", "ADDRESS", "PRIORITY", "WEIGHT", "STATE", "WHY", "SINCE", "ANSWER", "AGO",
            "HEARD", "RTT MS", "OPTIONS", "CALLS",
        ],
        &rows,
    );
    for trunk in trunks {
        if let Some(one) = &trunk.registration {
            let _ = writeln!(
                text,
                "{}: {} is {}{}{}",
                trunk.name,
                plain(&one.address),
                one.state,
                one.code
                    .map_or_else(String::new, |code| format!(", the last answer {code}")),
                one.expires
                    .map_or_else(String::new, |left| format!(", ends in {}", duration(left))),
            );
        }
    }
    text
}

/// `trunkline stats`.
#[must_use]
pub fn statistics_table(report: &StatisticsReport) -> String {
    let mut text = format!(
        "{}\nflows {} of {}, {} of map memory\nnext hops {}, {} unresolved\nevents lost {}\n\
         RTP lost before us {}\nSRTP refused {}, in the kernel {} ({}), keys there {} of {}\nSIP transactions {}, connections {}\n",
        report.phase,
        report.flows,
        report.flow_capacity,
        octets(report.map_memory),
        report.next_hops,
        report.next_hops_unresolved,
        report.events_lost,
        report.lost,
        report.srtp_failures,
        match report.srtp_xdp.loaded {
            true => "yes",
            false => "no",
        },
        plain(&report.srtp_xdp.why),
        report.srtp_xdp.streams,
        report.srtp_xdp.capacity,
        report.transactions,
        report.connections,
    );
    let mut section = |head: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text.push('\n');
            text += &table(head, &rows);
        }
    };
    section(
        &["INTERFACE", "XDP", "WHY"],
        report
            .interfaces
            .iter()
            .map(|interface| {
                vec![
                    interface.name.clone(),
                    interface.xdp.clone(),
                    plain(&interface.why),
                ]
            })
            .collect(),
    );
    section(
        &["INTERFACE", "PORT PAIRS", "OF"],
        report
            .ports
            .iter()
            .map(|ports| {
                vec![
                    ports.interface.clone(),
                    ports.used.to_string(),
                    ports.total.to_string(),
                ]
            })
            .collect(),
    );
    section(
        &["TRUNK", "CALLS", "COUNT"],
        report
            .calls
            .iter()
            .map(|calls| {
                vec![
                    calls.trunk.clone(),
                    calls.state.clone(),
                    calls.count.to_string(),
                ]
            })
            .collect(),
    );
    section(
        &["STREAMS", "COUNT"],
        report
            .streams
            .iter()
            .map(|count| vec![count.name.clone(), count.count.to_string()])
            .collect(),
    );
    section(
        &["PATH", "VERDICT", "REASON", "PACKETS", "OCTETS"],
        report
            .packets
            .iter()
            .map(|count| {
                vec![
                    count.path.clone(),
                    count.verdict.clone(),
                    count.reason.clone(),
                    count.packets.to_string(),
                    count.octets.to_string(),
                ]
            })
            .collect(),
    );
    section(
        &["TRUNK", "RESPONSES", "CODE", "COUNT"],
        report
            .responses
            .iter()
            .map(|responses| {
                vec![
                    responses.trunk.clone(),
                    responses.direction.clone(),
                    responses.code.to_string(),
                    responses.count.to_string(),
                ]
            })
            .collect(),
    );
    section(
        &["DISCARDED", "COUNT"],
        report
            .discarded
            .iter()
            .map(|count| vec![count.name.clone(), count.count.to_string()])
            .collect(),
    );
    text
}

/// A number of octets for people.
#[must_use]
pub fn octets(octets: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = octets as f64;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == UNITS[0] {
        format!("{octets} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}
