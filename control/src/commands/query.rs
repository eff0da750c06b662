//! Questions to the running daemon.

use control::admin::{
    Request, Response, ask, call_table, calls_table, flows_table, statistics_table, trunks_table,
};
use serde::Serialize;

use super::{Running, print};

pub(super) fn calls(daemon: &Running) -> Result<(), String> {
    match send(daemon, &Request::Calls)? {
        Response::Calls(calls) => show(daemon, &calls, |calls| calls_table(calls)),
        other => unexpected(&other),
    }
}

pub(super) fn call(daemon: &Running, id: String) -> Result<(), String> {
    match send(daemon, &Request::Call { id })? {
        Response::Call(call) => show(daemon, call.as_ref(), call_table),
        other => unexpected(&other),
    }
}

pub(super) fn flows(daemon: &Running) -> Result<(), String> {
    match send(daemon, &Request::Flows)? {
        Response::Flows(flows) => show(daemon, &flows, |flows| flows_table(flows)),
        other => unexpected(&other),
    }
}

pub(super) fn trunks(daemon: &Running) -> Result<(), String> {
    match send(daemon, &Request::Trunks)? {
        Response::Trunks(trunks) => show(daemon, &trunks, |trunks| trunks_table(trunks)),
        other => unexpected(&other),
    }
}

pub(super) fn statistics(daemon: &Running) -> Result<(), String> {
    match send(daemon, &Request::Stats)? {
        Response::Stats(report) => show(daemon, report.as_ref(), statistics_table),
        other => unexpected(&other),
    }
}

fn send(daemon: &Running, request: &Request) -> Result<Response, String> {
    ask(&daemon.socket()?, request).map_err(|error| error.to_string())
}

fn show<T: Serialize>(
    daemon: &Running,
    value: &T,
    table: impl Fn(&T) -> String,
) -> Result<(), String> {
    if daemon.json {
        let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
        print(&(text + "\n"))
    } else {
        print(&table(value))
    }
}

fn unexpected(response: &Response) -> Result<(), String> {
    let _ = response;
    Err("the daemon answered another question: is it of the same version?".to_owned())
}
