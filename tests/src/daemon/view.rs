//! Calls, as the admin socket tells of them.

use std::net::SocketAddr;

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
    /// Our addresses and ports for the legs' RTP.
    pub media: Vec<SocketAddr>,
    pub codec: String,
    pub held: bool,
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
    /// `waiting`, `flowing` or `held`.
    pub state: String,
    pub packets_xdp: u64,
    pub packets_userspace: u64,
    pub dropped: u64,
    pub lost: u64,
    pub jitter_ms: f64,
    pub mos: Option<f64>,
}

/// The answer to `calls`.
pub(super) fn calls(value: &Value) -> Result<Vec<CallView>> {
    value
        .as_array()
        .ok_or_else(|| LabError::new(format!("not a list of calls: {value}")))?
        .iter()
        .map(call)
        .collect()
}

fn call(call: &Value) -> Result<CallView> {
    let field = |names: &[&str]| -> Result<&Value> {
        names
            .iter()
            .try_fold(call, |value, name| value.get(name))
            .ok_or_else(|| LabError::new(format!("a call without {}: {call}", names.join("."))))
    };
    Ok(CallView {
        id: plain(field(&["id"])?),
        state: plain(field(&["state"])?),
        number: plain(field(&["to"])?),
        trunks: [
            plain(field(&["caller", "trunk"])?),
            plain(field(&["callee", "trunk"])?),
        ],
        media: [["caller", "media"], ["callee", "media"]]
            .iter()
            .filter_map(|path| plain(field(path).ok()?).parse().ok())
            .collect(),
        codec: plain(field(&["codec"])?),
        held: field(&["held"])?.as_bool().unwrap_or(false),
        answered: !field(&["answered"])?.is_null(),
        streams: field(&["streams"])?
            .as_array()
            .into_iter()
            .flatten()
            .map(stream)
            .collect(),
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
        state: value.get("state").map(plain).unwrap_or_default(),
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
