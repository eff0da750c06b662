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
are up go on as they began. A TLS connection whose certificate was replaced is closed once nothing is
awaited over it.

A carrier on one interface, a contact centre and Microsoft Teams on another:

";

/// A whole configuration.
const EXAMPLE: &str = r#"[media]
ports = "20000-29999"

[admin]
metrics = "127.0.0.1:9090"

[[interface]]
name = "eth0"
addresses = ["198.51.100.1"]

[[interface]]
name = "eth1"
addresses = ["203.0.113.1"]

[[trunk]]
name = "carrier"
interface = "eth0"
transport = "udp"
listen = "198.51.100.1:5060"
addresses = ["198.51.100.2:5060", "198.51.100.3:5060"]
allowed_sources = ["198.51.100.0/24"]

[[trunk]]
name = "contact-centre"
interface = "eth1"
transport = "tcp"
listen = "203.0.113.1:5060"
addresses = ["203.0.113.2:5060"]

[[trunk]]
name = "teams"
interface = "eth1"
transport = "tls"
listen = "203.0.113.1:5061"
addresses = ["sip.pstnhub.microsoft.com:5061", "sip2.pstnhub.microsoft.com:5061", "sip3.pstnhub.microsoft.com:5061"]
allowed_sources = ["52.112.0.0/14", "52.120.0.0/14"]
media_sources = ["52.112.0.0/14", "52.122.0.0/15"]
srtp = "require"
hold = "inactive"
domain = "sbc.example.com"
sip.profile = "teams"
tls.certificate = "/etc/trunkline/sbc.pem"
tls.key = "/etc/trunkline/sbc.key"
tls.server_name = "sip.pstnhub.microsoft.com"

[[route]]
from = ["carrier"]
number = "^\\+1555"
trunk = "contact-centre"

[[route]]
from = ["carrier"]
trunk = "teams"

[[route]]
from = ["contact-centre", "teams"]
trunk = "carrier"
"#;

/// The reference of every key, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = format!("{INTRODUCTION}```toml\n{EXAMPLE}```\n\n");
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
            continue;
        }
        let items = value
            .get("items")
            .filter(|items| properties(items).is_some());
        let is_either = items.is_some_and(|items| either(items).count() > 1);
        if let Some(items) = items {
            let whose = if is_either { table(items) } else { value };
            let title = format!("[[{inner}]]");
            tables.push((title, inner, items, description(whose)));
        }
        if items.is_none() || is_either {
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

/// What a value may be, where it may be of several types.
fn either(schema: &Value) -> impl Iterator<Item = &Value> {
    schema
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|one| one.get("type").is_none_or(|kind| kind != "null"))
}

/// The table that a value may be.
fn table(schema: &Value) -> &Value {
    let mut tables = either(schema).filter(|one| properties(one).is_some());
    tables.next().unwrap_or(schema)
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    table(schema)
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
        "array" => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            let mut kinds: Vec<_> = either(items).map(kind).collect();
            if kinds.is_empty() {
                kinds.push(kind(items));
            }
            format!("array of {}s", kinds.join("s or "))
        }
        "object" => "table".to_owned(),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_reference_in_docs_is_the_one_of_the_types() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        assert!(
            std::fs::read_to_string(&file).unwrap() == reference(),
            "the types have changed: cargo run -p control -- reference > docs/configuration.md"
        );
    }

    #[test]
    fn the_example_is_sound_but_for_its_certificates() {
        let problems = super::super::parse(EXAMPLE, Path::new("example.toml"))
            .unwrap_err()
            .problems;
        let what: Vec<_> = problems.iter().map(|problem| &problem.what).collect();
        assert_eq!(
            what,
            ["no certificate in /etc/trunkline/sbc.pem (No such file or directory (os error 2))"]
        );
    }

    #[test]
    fn the_readme_s_configuration_is_sound() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = std::fs::read_to_string(&file).unwrap();
        let example = text
            .split_once("```toml\n")
            .and_then(|(_, rest)| rest.split_once("```"))
            .map(|(example, _)| example)
            .unwrap();
        super::super::parse(example, &file).unwrap();
    }
}
