//! Calls, as the admin socket tells of them.

use serde_json::Value;

use crate::lab::{LabError, Result};

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallView {
    pub id: String,
    pub state: String,
    /// The number that was called.
    pub number: String,
    /// The caller's trunk, then the callee's.
    pub trunks: [String; 2],
    pub codec: String,
    pub answered: bool,
    /// From the caller to the callee, then back; empty before there is media.
    pub streams: Vec<StreamView>,
}

/// One direction of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamView {
    pub path: String,
    /// Why it is not the XDP program's; `None` when it is.
    pub reason: Option<String>,
    pub packets_xdp: u64,
    pub packets_userspace: u64,
    pub dropped: u64,
    pub lost: u64,
    pub jitter_ms: f64,
    pub mos: Option<f64>,
}

/// The identifiers in the answer to `calls`.
pub(super) fn calls(value: &Value) -> Vec<String> {
    let list = value.get("calls").unwrap_or(value);
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|call| call.get("id").map(plain))
        .collect()
}

/// The answer to `call`.
pub(super) fn call(value: &Value) -> Result<CallView> {
    let call = value.get("call").unwrap_or(value);
    let text = |name: &str| call.get(name).map(plain).unwrap_or_default();
    let legs = call.get("legs").and_then(Value::as_array);
    let trunk = |index: usize| {
        legs.and_then(|legs| legs.get(index))
            .and_then(|leg| leg.get("trunk"))
            .map(plain)
            .ok_or_else(|| {
                LabError::new(format!("a call without the trunk of leg {index}: {call}"))
            })
    };
    Ok(CallView {
        id: text("id"),
        state: text("state"),
        number: text("number"),
        trunks: [trunk(0)?, trunk(1)?],
        codec: text("codec"),
        answered: call
            .get("answered_seconds")
            .is_some_and(|value| !value.is_null()),
        streams: call
            .get("streams")
            .and_then(Value::as_array)
            .map(|streams| streams.iter().map(stream).collect())
            .unwrap_or_default(),
    })
}

fn stream(value: &Value) -> StreamView {
    let count = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    StreamView {
        path: value.get("path").map(plain).unwrap_or_default(),
        reason: value
            .get("reason")
            .filter(|reason| !reason.is_null())
            .map(plain),
        packets_xdp: count("packets_xdp"),
        packets_userspace: count("packets_userspace"),
        dropped: count("dropped"),
        lost: count("lost"),
        jitter_ms: value
            .get("jitter_ms")
            .and_then(Value::as_f64)
            .unwrap_or(0.0),
        mos: value.get("mos").and_then(Value::as_f64),
    }
}

/// A string without its quotes, anything else as JSON has it; nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
