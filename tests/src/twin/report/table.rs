//! The report for people and for programs.

use std::fmt::Write;

use serde_json::json;

use super::{Outcome, Verdict};

/// Row by row, with the counts at the end.
#[must_use]
pub fn table(verdicts: &[Verdict]) -> String {
    let width = |of: fn(&Verdict) -> &str| {
        let lengths = verdicts.iter().map(|verdict| of(verdict).chars().count());
        lengths.max().unwrap_or(0)
    };
    let (rows, asks) = (width(|verdict| verdict.row), width(|verdict| verdict.asks));
    let mut text = String::new();
    for verdict in verdicts {
        let _ = write!(
            text,
            "{:<rows$}  {:<asks$}  {}",
            verdict.row, verdict.asks, verdict.outcome
        );
        if !verdict.why.is_empty() {
            let _ = write!(text, ": {}", verdict.why.replace('\n', " "));
        }
        text.push('\n');
    }
    let count = |outcome| {
        let of = verdicts.iter().filter(|verdict| verdict.outcome == outcome);
        of.count()
    };
    let _ = writeln!(
        text,
        "\nteams-report: {} rows pass, {} fail, {} untestable here",
        count(Outcome::Pass),
        count(Outcome::Fail),
        count(Outcome::Untestable)
    );
    text
}

/// As JSON.
#[must_use]
pub fn json(verdicts: &[Verdict]) -> String {
    let rows: Vec<serde_json::Value> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "row": verdict.row,
                "asks": verdict.asks,
                "verdict": verdict.outcome.to_string(),
                "why": verdict.why,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "rows": rows }))
}
