//! Another configuration at run time, and what of it needs a restart.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

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

/// The first trunk that stands on an interface which is not among the running ones, or has a media
/// address which is none of theirs, and what that is.
pub(super) fn stranded(settings: &Settings) -> Option<(&str, String)> {
    let is_in_use = |address: &IpAddr| {
        let mut interfaces = settings.interfaces.iter();
        interfaces.any(|interface| interface.addresses.contains(address))
    };
    settings.trunks.iter().find_map(|trunk| {
        let missing = match settings.interface(&trunk.interface) {
            None => trunk.interface.clone(),
            Some(_) => {
                let mut named = trunk.media_addresses();
                named.find(|address| !is_in_use(address))?.to_string()
            }
        };
        Some((trunk.name.as_str(), missing))
    })
}

/// The settings with what names are known to resolve to.
pub(super) fn with_lookups(settings: &Settings, lookups: &Lookups) -> Arc<Settings> {
    Arc::new(settings.with_lookups(|question| lookups.get(question)))
}
