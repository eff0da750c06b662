//! docs/configuration.md, made from the types.

use std::fmt::Write as _;

use serde_json::Value;

use super::document::{properties, schema};

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the types by `trunkline reference`. Change the types, not this file. -->

One file in [TOML](https://toml.io). `trunkline check FILE` says what is wrong with it, by line,
and what it amounts to; a key that means nothing is an error. On SIGHUP the daemon reads the file
anew, certificates included, and keeps the old configuration when the new one is wrong. Calls that
are up go on as they began.

";

/// The reference of every key, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    let schema = schema();
    section(&mut text, schema.as_value(), "");
    text
}

/// The keys of one table, then the tables in it.
fn section(text: &mut String, schema: &Value, path: &str) {
    let Some(keys) = properties(schema) else {
        return;
    };
    let required: Vec<_> = required(schema).collect();
    let mut rows = String::new();
    let mut tables = Vec::new();
    for (key, value) in keys {
        let inner = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if properties(value).is_some() {
            tables.push((format!("[{inner}]"), inner, value, description(value)));
        } else if let Some(items) = value
            .get("items")
            .filter(|items| properties(items).is_some())
        {
            tables.push((format!("[[{inner}]]"), inner, items, description(value)));
        } else {
            let default = match value.get("default") {
                _ if required.contains(&key.as_str()) => "required".to_owned(),
                Some(default) if !default.is_null() => format!("`{default}`"),
                _ => "none".to_owned(),
            };
            let _ = writeln!(
                rows,
                "| `{key}` | {} | {default} | {} |",
                kind(value),
                description(value).replace('|', "\\|").replace('\n', " ")
            );
        }
    }
    if !rows.is_empty() {
        text.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
        text.push_str(&rows);
        text.push('\n');
    }
    for (title, path, schema, description) in tables {
        let _ = write!(text, "## `{title}`\n\n{description}\n\n");
        section(text, schema, &path);
    }
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn description(schema: &Value) -> &str {
    schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The type in TOML's words.
fn kind(schema: &Value) -> String {
    let values: Vec<_> = alternatives(schema).collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null")
            .unwrap_or_default(),
        _ => "",
    };
    match name {
        "array" => format!(
            "array of {}s",
            schema.get("items").map(kind).unwrap_or_default()
        ),
        name => name.to_owned(),
    }
}

/// The values of an enumeration.
fn alternatives(schema: &Value) -> impl Iterator<Item = String> {
    let list = |key: &str| {
        schema
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    list("enum")
        .chain(list("oneOf").flat_map(|one| {
            one.get("const").into_iter().chain(
                one.get("enum")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten(),
            )
        }))
        .filter(|value| !value.is_null())
        .map(|value| format!("`{value}`"))
}
