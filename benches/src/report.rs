//! What was measured, by the names that readers compare from run to run, and what was not.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    Part,
    wanted::{FIGURES, RATIOS},
};

/// One measured quantity: its rounds' median, least and greatest. One that could not be measured
/// has no values, and says why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub median: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub rounds: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    pub ratios: Vec<Row>,
    /// Those without a value are in `not_measured`.
    pub figures: BTreeMap<&'static str, Option<f64>>,
    /// What is to be said of figures and rows, by name.
    pub remarks: BTreeMap<String, String>,
    /// By name, why.
    pub not_measured: BTreeMap<String, String>,
    /// The rounds' values, in the order in which the rows were begun.
    #[serde(skip)]
    values: Vec<(String, &'static str, Vec<f64>)>,
    /// What ended a part early.
    #[serde(skip)]
    failures: Vec<(Part, String)>,
}

impl Report {
    /// Notes one round's value of a row, and tells the user.
    pub fn note(&mut self, name: &str, unit: &'static str, value: f64) {
        println!("{name}: {} {unit}", shown(value));
        match self.values.iter_mut().find(|(known, ..)| known == name) {
            Some((_, _, values)) => values.push(value),
            None => self.values.push((name.to_owned(), unit, vec![value])),
        }
    }

    /// Says something of a row or a figure, and tells the user.
    pub fn remark(&mut self, name: &str, what: &str) {
        println!("{name}: {what}");
        self.remarks.insert(name.to_owned(), what.to_owned());
    }

    /// Notes that a row, a ratio or a figure cannot be measured here, and tells the user once.
    pub fn skip(&mut self, name: &str, unit: &'static str, why: &str) {
        if self.not_measured.contains_key(name) {
            return;
        }
        println!("{name}: not measured: {why}");
        self.not_measured.insert(name.to_owned(), why.to_owned());
        if self.median(name).is_none() {
            self.values.push((name.to_owned(), unit, Vec::new()));
        }
    }

    /// Notes what ended a part early.
    pub fn fail(&mut self, part: Part, why: String) {
        eprintln!("bench: {part:?}: {why}");
        self.failures.push((part, why));
    }

    /// A figure, if it was measured.
    pub fn figure(&mut self, name: &'static str, value: Option<f64>) {
        if value.is_some() {
            self.figures.insert(name, value);
        }
    }

    /// Makes rows of what was noted, and completes them: a ratio or a figure that is wanted and
    /// not there is told to be missing, and why. `asked` are the parts that were to be measured.
    /// Says whether all that was asked for was tried to its end.
    pub fn close(&mut self, asked: impl Fn(Part) -> bool) -> bool {
        let mut whole = self.failures.is_empty();
        for wanted in RATIOS.iter().chain(&FIGURES) {
            let name = wanted.name;
            let here = self
                .ratios
                .iter()
                .any(|row| row.name == name && row.median.is_some())
                || self.figures.get(name).is_some_and(Option::is_some);
            if here {
                continue;
            }
            let failed = self.failures.iter().find(|(part, _)| *part == wanted.part);
            let why = match (failed, self.not_measured.get(name)) {
                (Some((_, why)), _) => why.clone(),
                (None, Some(why)) => why.clone(),
                (None, None) if !asked(wanted.part) => "it was not asked for".to_owned(),
                (None, None) => {
                    whole = false;
                    "the harness left it out".to_owned()
                }
            };
            println!("{name}: not measured: {why}");
            self.not_measured.insert(name.to_owned(), why.clone());
            if FIGURES.iter().any(|figure| figure.name == name) {
                self.figures.insert(name, None);
            } else {
                self.ratios.retain(|row| row.name != name);
                self.ratios.push(missing(name, "", why));
            }
        }
        self.rows = self
            .values
            .iter()
            .map(|(name, unit, values)| {
                row(name, unit, values).unwrap_or_else(|| {
                    let why = self.not_measured.get(name).cloned();
                    missing(name, unit, why.unwrap_or_default())
                })
            })
            .collect();
        whole
    }

    /// Adds the ratio of two rows, round by round, or why there is none.
    pub fn ratio(&mut self, name: &str, of: &str, to: &str) {
        let find = |wanted: &str| {
            let found = self.values.iter().find(|(name, ..)| name == wanted);
            found.map_or(&[][..], |(_, _, values)| values.as_slice())
        };
        let each: Vec<f64> = find(of)
            .iter()
            .zip(find(to))
            .map(|(of, to)| of / to)
            .collect();
        if let Some(row) = row(name, "", &each) {
            self.ratios.push(row);
            return;
        }
        let [of, to] = [of, to].map(|row| match self.not_measured.get(row) {
            Some(why) => Some(format!("{row}: {why}")),
            None if find(row).is_empty() => Some(format!("{row} was not measured in this run")),
            None => None,
        });
        if let Some(why) = of.or(to) {
            self.not_measured.insert(name.to_owned(), why);
        }
    }

    /// The median of a row.
    pub fn median(&self, name: &str) -> Option<f64> {
        let (name, unit, values) = self.values.iter().find(|(known, ..)| known == name)?;
        row(name, unit, values)?.median
    }
}

fn missing(name: &str, unit: &'static str, why: String) -> Row {
    Row {
        name: name.to_owned(),
        unit,
        median: None,
        min: None,
        max: None,
        rounds: 0,
        why: Some(why),
    }
}

fn row(name: &str, unit: &'static str, values: &[f64]) -> Option<Row> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied()?;
    let median = match sorted.len() % 2 {
        0 => f64::midpoint(sorted.get(middle - 1).copied()?, upper),
        _ => upper,
    };
    Some(Row {
        name: name.to_owned(),
        unit,
        median: Some(median),
        min: Some(first),
        max: Some(last),
        rounds: sorted.len(),
        why: None,
    })
}

/// A value with as many digits as mean something.
pub fn shown(value: f64) -> String {
    if value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_ratios_are_of_the_rounds() {
        let mut report = Report::default();
        for (ours, theirs) in [(30.0, 10.0), (20.0, 10.0), (50.0, 10.0), (40.0, 20.0)] {
            report.note("ours", "pps", ours);
            report.note("theirs", "pps", theirs);
        }
        report.ratio("ours_vs_theirs", "ours", "theirs");
        report.close(|_| true);
        let [ours, _] = &report.rows[..] else {
            panic!("{:?}", report.rows)
        };
        assert_eq!(
            (ours.median, ours.min, ours.max, ours.rounds),
            (Some(35.0), Some(20.0), Some(50.0), 4)
        );
        let ratio = &report.ratios[0];
        let values = (ratio.median, ratio.min, ratio.max);
        assert_eq!(values, (Some(2.5), Some(2.0), Some(5.0)));
    }

    #[test]
    fn what_is_missing_is_named_and_says_why() {
        let mut report = Report::default();
        report.skip("fast_protect", "packets/s", "no key table");
        report.note("rtpengine_protect", "packets/s", 5.0);
        report.ratio(
            "fast_vs_rtpengine_protect",
            "fast_protect",
            "rtpengine_protect",
        );
        report.fail(Part::Memory, "SIPp is not here".to_owned());
        report.figure("calls_per_second_media", Some(1.0));
        assert!(!report.close(|part| part != Part::Fast));
        let names = RATIOS.iter().chain(&FIGURES).map(|wanted| wanted.name);
        for name in names.filter(|name| *name != "calls_per_second_media") {
            assert!(report.not_measured.contains_key(name), "{name}");
        }
        let why = |name: &str| report.not_measured[name].as_str();
        assert_eq!(
            why("fast_vs_rtpengine_protect"),
            "fast_protect: no key table"
        );
        assert_eq!(why("calls_held"), "SIPp is not here");
        assert_eq!(why("fast_vs_limit_1"), "it was not asked for");
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["figures"]["calls_held"], serde_json::Value::Null);
        assert_eq!(json["figures"]["calls_per_second_media"], 1.0);
        assert_eq!(json["rows"][0]["why"], "no key table");
    }

    #[test]
    fn a_part_that_leaves_something_out_is_noticed() {
        let mut report = Report::default();
        assert!(!report.close(|part| part == Part::Cost));
        assert!(Report::default().close(|_| false));
    }
}
