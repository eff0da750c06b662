//! What the dearest of RFC 4475's messages costs to parse.

use std::{hint::black_box, time::Duration, time::Instant};

use control::sip::{Limits, parse};

use crate::report::Report;

#[expect(
    dead_code,
    reason = "what each is answered with is for the parser's tests"
)]
#[path = "../../control/src/sip/torture_cases.rs"]
mod cases;

/// How often each message is parsed. The least time counts: what else the machine did in the
/// others is no cost of parsing.
const TIMES: usize = 2_000;

/// Notes the dearest message's time, and which it is.
pub fn torture(report: &mut Report) {
    let (name, least) = dearest(TIMES);
    report.note(ROW, "µs", least.as_secs_f64() * 1e6);
    report.figure(ROW, Some(least.as_secs_f64() * 1e6));
    report.remark(
        ROW,
        &format!("of {} messages it is {name}", messages().len()),
    );
}

const ROW: &str = "torture_parse_worst_us";

fn messages() -> Vec<(&'static str, String)> {
    let with_text = |case: &cases::Case| (case.name, case.text.replace('\n', "\r\n"));
    let mut messages: Vec<_> = cases::CASES.iter().map(with_text).collect();
    messages.push(("longreq", cases::long_request()));
    messages
}

fn dearest(times: usize) -> (&'static str, Duration) {
    let limits = Limits::default();
    let least = |text: &str| {
        let one = |_| {
            let begin = Instant::now();
            // Whether it is good or bad: both are answered.
            let _ = black_box(parse(black_box(text.as_bytes()), &limits));
            begin.elapsed()
        };
        (0..times).map(one).min().unwrap_or_default()
    };
    let costs = messages()
        .into_iter()
        .map(|(name, text)| (name, least(&text)));
    costs.max_by_key(|(_, cost)| *cost).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_49_messages_are_parsed_and_one_is_the_dearest() {
        let names: Vec<_> = messages().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 49);
        let (name, least) = dearest(3);
        assert!(names.contains(&name));
        assert!(least > Duration::ZERO);
    }
}
