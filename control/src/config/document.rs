//! The file as text and tree, so that whatever is wrong can be found again by line.

use schemars::{Schema, generate::SchemaSettings};
use serde::Deserialize;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{error::Problem, settings::Settings, values::REMEDY};

/// One step from a value of the file to a value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(&'static str),
    Index(usize),
}

/// A file that is TOML.
pub(super) struct Document<'i> {
    text: &'i str,
    root: toml::Spanned<DeTable<'i>>,
}

impl<'i> Document<'i> {
    pub(super) fn parse(text: &'i str) -> Result<Self, Problem> {
        let root = DeTable::parse(text).map_err(|error| Problem {
            line: error.span().map(|span| line_of(text, span.start)),
            what: format!("this is not TOML: {}", one_line(error.message())),
            remedy: "correct the syntax (https://toml.io)".to_owned(),
        })?;
        Ok(Self { text, root })
    }

    /// The keys that mean nothing, each with the known one that it resembles, and those that are
    /// no table where one belongs. Of these the value is not shown: it may hold a password.
    pub(super) fn misplaced(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.misplaced_in_table(
            self.root.get_ref(),
            schema().as_value(),
            ("the file", ""),
            &mut problems,
        );
        problems
    }

    /// `place` is how the table is called, `path` what stands before its keys.
    fn misplaced_in_table(
        &self,
        table: &DeTable<'_>,
        schema: &Value,
        (place, path): (&str, &str),
        problems: &mut Vec<Problem>,
    ) {
        let Some(known) = properties(schema) else {
            return;
        };
        for (key, value) in table {
            let name = key.get_ref();
            let Some(inner) = known.get(name.as_ref()) else {
                let remedy = match nearest(name, known.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "remove it; {place} knows {}",
                        known
                            .keys()
                            .map(|key| format!("`{key}`"))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                };
                problems.push(Problem {
                    line: Some(line_of(self.text, key.span().start)),
                    what: format!("unknown key `{name}` in {place}"),
                    remedy,
                });
                continue;
            };
            let below = format!("{path}{name}.");
            let no_table = |offset: usize, what: &str, header: &str| Problem {
                line: Some(line_of(self.text, offset)),
                what: format!("`{name}` in {place} is {what}"),
                remedy: format!("write {header} on a line of its own, and its keys below"),
            };
            let (one, several) = (format!("[{path}{name}]"), format!("[[{path}{name}]]"));
            let at = key.span().start;
            let items = inner.get("items").unwrap_or(&Value::Null);
            match value.get_ref() {
                DeValue::Table(table) if properties(inner).is_some() => {
                    let place = format!("[{name}]");
                    self.misplaced_in_table(table, inner, (&place, &below), problems);
                }
                DeValue::Array(array) if properties(items).is_some() => {
                    for element in array {
                        if let DeValue::Table(table) = element.get_ref() {
                            let place = format!("[[{name}]]");
                            self.misplaced_in_table(table, items, (&place, &below), problems);
                        } else if items.get("properties").is_some() {
                            let at = element.span().start;
                            problems.push(no_table(at, "no list of tables", &several));
                        }
                    }
                }
                _ if properties(inner).is_some() => problems.push(no_table(at, "no table", &one)),
                _ if items.get("properties").is_some() => {
                    problems.push(no_table(at, "no list of tables", &several));
                }
                _ => {}
            }
        }
    }

    /// The values, each of its type.
    pub(super) fn settings(&self) -> Result<Settings, Problem> {
        Settings::deserialize(toml::Deserializer::from(self.root.clone())).map_err(|error| {
            let message = error.message();
            let (what, remedy) = match message.split_once(REMEDY) {
                Some((what, remedy)) => (what.to_owned(), remedy.to_owned()),
                None => (
                    one_line(message),
                    "see docs/configuration.md for what belongs here".to_owned(),
                ),
            };
            Problem {
                line: error.span().map(|span| line_of(self.text, span.start)),
                what,
                remedy,
            }
        })
    }

    /// The line of a value, or of the innermost table that exists on the way to it.
    pub(super) fn line(&self, path: &[Step]) -> usize {
        line_of(self.text, self.find(path).1)
    }

    /// Whether the file itself says something there.
    pub(super) fn has(&self, path: &[Step]) -> bool {
        self.find(path).0 == path.len()
    }

    /// How many steps of a path exist, and at which offset the last of them is.
    fn find(&self, path: &[Step]) -> (usize, usize) {
        let mut offset = self.root.span().start;
        let mut value: Option<&DeValue<'_>> = None;
        for (taken, step) in path.iter().enumerate() {
            let next = match (step, value) {
                (Step::Key(key), None) => self.root.get_ref().get(*key),
                (Step::Key(key), Some(DeValue::Table(table))) => table.get(*key),
                (Step::Index(index), Some(DeValue::Array(array))) => array.get(*index),
                _ => None,
            };
            let Some(next) = next else {
                return (taken, offset);
            };
            offset = next.span().start;
            value = Some(next.get_ref());
        }
        (path.len(), offset)
    }
}

/// The schema of the file, made from the types, nothing in it by reference.
pub(super) fn schema() -> Schema {
    SchemaSettings::default()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Settings>()
}

/// The keys of a table, by its schema; `None` for what is no table.
pub(super) fn properties(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    match schema.get("properties") {
        Some(properties) => properties.as_object(),
        None => schema.get("anyOf")?.as_array()?.iter().find_map(properties),
    }
}

/// Counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|octet| **octet == b'\n').count()
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The known key that `name` was probably meant to be.
fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|key| (edit_distance(name, key), key))
        .filter(|(distance, key)| *distance <= 1 + key.len() / 4)
        .min()
        .map(|(_, key)| key)
}

/// How many octets must be inserted, removed or replaced to make one of the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, octet) in from.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (column, other) in to.bytes().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or(usize::MAX);
            let cost = (diagonal + usize::from(octet != other))
                .min(left + 1)
                .min(above + 1);
            if let Some(cell) = row.get_mut(column) {
                *cell = left;
            }
            diagonal = above;
            left = cost;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        for (from, to, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("ports", "ports", 0),
            ("port", "ports", 1),
            ("prots", "ports", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }
}
