//! What the terminal shows.

use std::fmt::Write;

use super::judge::{CallResult, Plain};
use crate::daemon::{CallView, StreamView};

/// How the calls are at this moment.
pub(super) fn live(seconds: u64, calls: &[CallView]) -> String {
    let mut text = format!("{seconds:>4} s  {} calls", calls.len());
    for call in calls {
        let _ = write!(
            text,
            "\n        {:<14} {:>14} → {:<14} {:<12}",
            call.number, call.trunks[0], call.trunks[1], call.state
        );
        for (arrow, stream) in ["→", "←"].iter().zip(&call.streams) {
            let _ = write!(
                text,
                " {arrow} {} {}",
                stream.packets_xdp + stream.packets_userspace,
                path(stream)
            );
        }
    }
    text
}

const HEADS: [&str; 10] = [
    "call",
    "number",
    "codec",
    "",
    "path",
    "xdp",
    "userspace",
    "lost",
    "jitter",
    "MOS",
];

/// The table at the end, two lines a call: one for each direction.
pub(super) fn table(results: &[CallResult]) -> String {
    let mut rows: Vec<Vec<String>> = vec![HEADS.iter().map(|&head| head.to_owned()).collect()];
    rows[0].push("sound".to_owned());
    for result in results {
        for direction in 0..2 {
            rows.push(row(result, direction));
        }
    }
    let columns = rows[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
        if index == 0 {
            let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
            text.push_str(&rule.join("  "));
            text.push('\n');
        }
    }
    text
}

fn row(result: &CallResult, direction: usize) -> Vec<String> {
    let (label, number, codec) = match direction {
        0 => (
            result.kind.label(),
            result.number.clone(),
            result.codec.clone(),
        ),
        _ => (String::new(), String::new(), String::new()),
    };
    let heard = match direction {
        0 => result.callee,
        _ => result.caller,
    };
    let (who, same) = match direction {
        0 => ("callee", result.callee_heard()),
        _ => ("caller", result.caller_heard()),
    };
    let sound = match (result.answered, heard) {
        (false, _) => "not answered".to_owned(),
        (true, None) => format!("{who} heard nothing"),
        (true, Some(heard)) if same => {
            format!("{who} heard what was sent ({:.1} s)", heard.seconds())
        }
        (true, Some(heard)) => format!("{who} did NOT hear what was sent ({heard})"),
    };
    let arrow = ["→", "←"][direction.min(1)].to_owned();
    let mut row = vec![label, number, codec, arrow];
    match result.streams.get(direction) {
        Some(stream) => row.extend([
            path(stream),
            stream.packets_xdp.to_string(),
            stream.packets_userspace.to_string(),
            stream.lost.to_string(),
            format!("{:.1} ms", stream.jitter_ms),
            stream.mos.map_or("–".to_owned(), |mos| format!("{mos:.2}")),
        ]),
        None => row.extend(["–"; 6].map(str::to_owned)),
    }
    row.push(sound);
    row
}

fn path(stream: &StreamView) -> String {
    match &stream.reason {
        Some(reason) => format!("{} ({reason})", stream.path),
        None => stream.path.clone(),
    }
}

/// What lay bare on the wires.
pub(super) fn wires(plain: &Plain) -> String {
    let mut text = String::new();
    for (party, count) in Plain::PARTIES.iter().zip([plain.carrier, plain.teams]) {
        let _ = writeln!(
            text,
            "on the wire towards {party}: {} RTP packets, {} of them with their sound in the clear",
            count.packets, count.plain
        );
    }
    text
}
