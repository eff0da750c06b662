//! The results as JSON.

use serde_json::json;

use super::judge::{CallResult, Plain};

pub(super) fn json(results: &[CallResult], plain: &Plain) -> String {
    let calls: Vec<serde_json::Value> = results.iter().map(call).collect();
    let report = json!({
        "calls": calls,
        "wires": {
            "carrier": {"packets": plain.carrier.packets, "plain": plain.carrier.plain},
            "teams": {"packets": plain.teams.packets, "plain": plain.teams.plain},
        },
    });
    format!("{report:#}\n")
}

fn call(result: &CallResult) -> serde_json::Value {
    let directions = ["caller-to-callee", "callee-to-caller"];
    let streams: Vec<serde_json::Value> = directions
        .iter()
        .zip(&result.streams)
        .map(|(direction, stream)| {
            json!({
                "direction": direction,
                "path": stream.path,
                "reason": stream.reason,
                "packets_xdp": stream.packets_xdp,
                "packets_userspace": stream.packets_userspace,
                "lost": stream.lost,
                "jitter_ms": stream.jitter_ms,
                "mos": stream.mos,
            })
        })
        .collect();
    json!({
        "from": result.kind.from(),
        "to": result.kind.to(),
        "number": result.number,
        "codec": result.codec,
        "answered": result.answered,
        "heard": {"caller": result.caller_heard(), "callee": result.callee_heard()},
        "streams": streams,
    })
}
