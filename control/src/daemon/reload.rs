//! Another configuration at run time, and what of it needs a restart.

use std::{path::PathBuf, sync::Arc};

use crate::{
    config::{self, ConfigError, Settings},
    transport::{Lookups, resolve},
};

/// A configuration that was read, with its names looked up.
pub(super) struct Reloaded {
    pub(super) settings: Settings,
    pub(super) lookups: Lookups,
}

/// Reads the file anew.
pub(super) async fn read(path: PathBuf, known: Lookups) -> Result<Reloaded, ConfigError> {
    let file = path.clone();
    let settings = tokio::task::spawn_blocking(move || config::load(&path))
        .await
        .unwrap_or_else(|error| {
            Err(ConfigError {
                file,
                problems: vec![config::Problem {
                    line: None,
                    what: format!("reading it ended early ({error})"),
                    remedy: "try again".to_owned(),
                }],
            })
        })?;
    let lookups = resolve(&settings, &known, &Lookups::default()).await;
    Ok(Reloaded { settings, lookups })
}

/// Takes over from `running` what cannot change at run time, and names each such change.
pub(super) fn keep_fixed(settings: &mut Settings, running: &Settings) -> Vec<&'static str> {
    let mut fixed = Vec::new();
    if settings.media != running.media {
        settings.media = running.media.clone();
        fixed.push("[media]");
    }
    if settings.admin != running.admin {
        settings.admin = running.admin.clone();
        fixed.push("[admin]");
    }
    if settings.interfaces != running.interfaces {
        settings.interfaces = running.interfaces.clone();
        fixed.push("[[interface]]");
    }
    let limits = &mut settings.limits;
    if limits.connections != running.limits.connections {
        limits.connections = running.limits.connections;
        fixed.push("[limits] connections");
    }
    if limits.handshakes != running.limits.handshakes {
        limits.handshakes = running.limits.handshakes;
        fixed.push("[limits] handshakes");
    }
    fixed
}

/// The first trunk that stands on an interface which is not among the running ones.
pub(super) fn stranded(settings: &Settings) -> Option<(&str, &str)> {
    settings
        .trunks
        .iter()
        .find(|trunk| settings.interface(&trunk.interface).is_none())
        .map(|trunk| (trunk.name.as_str(), trunk.interface.as_str()))
}

/// The settings with what names are known to resolve to.
pub(super) fn with_lookups(settings: &Settings, lookups: &Lookups) -> Arc<Settings> {
    Arc::new(settings.with_lookups(|question| lookups.get(question)))
}
