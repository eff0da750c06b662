//! What was measured, by the names that readers compare from run to run.

use std::collections::BTreeMap;

use serde::Serialize;

/// One measured quantity: its rounds' median, least and greatest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    pub ratios: Vec<Row>,
    pub figures: BTreeMap<&'static str, f64>,
    /// The rounds' values, in the order in which the rows were begun.
    #[serde(skip)]
    values: Vec<(String, &'static str, Vec<f64>)>,
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

    /// Makes rows of what was noted.
    pub fn close(&mut self) {
        self.rows = self
            .values
            .iter()
            .filter_map(|(name, unit, values)| row(name, unit, values))
            .collect();
    }

    /// Adds the ratio of two rows, round by round, if both were measured.
    pub fn ratio(&mut self, name: &str, of: &str, to: &str) {
        let find = |wanted: &str| {
            let found = self.values.iter().find(|(name, ..)| name == wanted);
            found.map(|(_, _, values)| values.as_slice())
        };
        let (Some(of), Some(to)) = (find(of), find(to)) else {
            return;
        };
        let each: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        self.ratios.extend(row(name, "", &each));
    }

    /// The median of a row.
    pub fn median(&self, name: &str) -> Option<f64> {
        let (name, unit, values) = self.values.iter().find(|(known, ..)| known == name)?;
        row(name, unit, values).map(|row| row.median)
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
        median,
        min: first,
        max: last,
        rounds: sorted.len(),
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
        report.ratio("nothing", "ours", "unmeasured");
        report.close();
        let [ours, _] = &report.rows[..] else {
            panic!("{:?}", report.rows)
        };
        assert_eq!(
            (ours.median, ours.min, ours.max, ours.rounds),
            (35.0, 20.0, 50.0, 4)
        );
        let [ratio] = &report.ratios[..] else {
            panic!("{:?}", report.ratios)
        };
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.5, 2.0, 5.0));
    }
}
