//! Every row, by topic.

pub(super) mod bypass;
mod centre;
mod failover;
mod hold;
mod identity;
pub(super) mod invite;
mod media;
mod methods;
mod proxies;
mod ringing;
mod security;
mod transfer;

use super::{Group, Row, demand, observe, row, stage, untestable};

/// Every group of rows, each with the stage that it wants.
pub(super) fn groups() -> Vec<Group> {
    let mut groups = Vec::new();
    for of in [
        proxies::groups,
        transfer::groups,
        centre::groups,
        failover::groups,
        security::groups,
        hold::groups,
        media::groups,
        ringing::groups,
        invite::groups,
        identity::groups,
        methods::groups,
        bypass::groups,
    ] {
        groups.extend(of());
    }
    groups
}

/// The topics in the order in which they are told.
const TOPICS: [&str; 26] = [
    "tls",
    "proxies",
    "options",
    "tenant",
    "to",
    "from",
    "identity",
    "ringing",
    "elsewhere",
    "hold",
    "transfer",
    "timer",
    "methods",
    "failover-in",
    "failover-out",
    "srtp",
    "codecs",
    "rtcp",
    "bypass",
    "addresses",
    "media",
    "size",
    "local-media",
    "emergency",
    "routing",
    "errors",
];

/// The names of all rows in the order in which they are told.
pub(super) fn order() -> Vec<&'static str> {
    let groups = groups();
    let mut names: Vec<&'static str> = groups
        .iter()
        .flat_map(|group| group.rows.iter().map(|row| row.name))
        .collect();
    names.sort_by_key(|name| {
        let topic = name.split('/').next().unwrap_or_default();
        TOPICS.iter().position(|&known| known == topic)
    });
    names
}

/// A group on the usual stage.
fn group(name: &'static str, rows: Vec<Row>) -> Group {
    Group {
        name,
        settings: stage::StageSettings::default(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_have_names_of_their_own_in_known_topics() {
        let mut names = HashSet::new();
        for name in order() {
            assert!(names.insert(name), "{name} is there twice");
            let topic = name.split('/').next().expect("a topic");
            assert!(TOPICS.contains(&topic), "{name}");
        }
    }

    #[test]
    fn every_row_of_the_page_is_a_row_of_the_report() {
        let page = include_str!("../../../../../docs/teams.md");
        let told: HashSet<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name)
            .collect();
        let known: HashSet<&str> = order().into_iter().collect();
        assert_eq!(told, known);
    }
}
