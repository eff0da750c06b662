//! What the daemon says it has discarded.

use std::collections::BTreeMap;

use crate::{
    daemon::Daemon,
    lab::{Lab, Result},
};

/// Where something was discarded (`edge`, `core`, `xdp`, `userspace`, `socket`), and why.
pub type Place = (String, String);

/// Where the workers count what was too old when they came to it: of an attack or of a call, when a
/// machine kept them from it for 200 ms.
#[must_use]
pub fn stale_place() -> Place {
    ("userspace".to_owned(), "stale".to_owned())
}

/// Everything that `/metrics` shows as discarded or dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Place, u64>);

impl Counts {
    /// Reads them.
    ///
    /// # Errors
    /// When the metrics do not answer.
    pub fn read(daemon: &Daemon, lab: &Lab) -> Result<Self> {
        let (_, text) = daemon.get(lab, "/metrics")?;
        Ok(Self(text.lines().filter_map(count).collect()))
    }

    /// What has grown since `before`, and by how much.
    #[must_use]
    pub fn since(&self, before: &Self) -> BTreeMap<Place, u64> {
        self.0
            .iter()
            .map(|(place, value)| {
                let known = before.0.get(place).copied().unwrap_or_default();
                (place.clone(), value.saturating_sub(known))
            })
            .filter(|(_, growth)| *growth > 0)
            .collect()
    }
}

fn count(line: &str) -> Option<(Place, u64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse::<f64>().ok()? as u64;
    if series == "trunkline_socket_overflows_total" {
        return Some((("socket".to_owned(), "overflow".to_owned()), value));
    }
    let labels = series.split_once('{')?.1;
    let label = |name: &str| {
        let begin = labels.find(&format!("{name}=\""))? + name.len() + 2;
        labels.get(begin..)?.split('"').next()
    };
    let place = if series.starts_with("trunkline_discards_total{") {
        label("place")?
    } else if series.starts_with("trunkline_packets_total{") && label("verdict") == Some("drop") {
        label("path")?
    } else {
        return None;
    };
    Some(((place.to_owned(), label("reason")?.to_owned()), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discards_and_drops_are_read_and_nothing_else() {
        let read = |text: &str| Counts(text.lines().filter_map(count).collect());
        let before = read("trunkline_discards_total{place=\"edge\",reason=\"oversized\"} 3\n");
        let after = read(
            "# TYPE x counter\ntrunkline_discards_total{place=\"edge\",reason=\"oversized\"} 5\n\
             trunkline_packets_total{path=\"xdp\",verdict=\"drop\",reason=\"bad-rtp\"} 7\n\
             trunkline_packets_total{path=\"xdp\",verdict=\"punt\",reason=\"stun\"} 9\n\
             trunkline_socket_overflows_total 1\ntrunkline_calls{trunk=\"a\"} 4\n",
        );
        let grown: Vec<(String, String, u64)> = after
            .since(&before)
            .into_iter()
            .map(|((place, reason), growth)| (place, reason, growth))
            .collect();
        let grown: Vec<(&str, &str, u64)> = grown
            .iter()
            .map(|(place, reason, growth)| (place.as_str(), reason.as_str(), *growth))
            .collect();
        assert_eq!(
            grown,
            [
                ("edge", "oversized", 2),
                ("socket", "overflow", 1),
                ("xdp", "bad-rtp", 7)
            ]
        );
    }
}
