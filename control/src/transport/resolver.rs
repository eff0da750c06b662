//! Names of trunks' addresses, looked up by the system's resolver.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use crate::config::{Host, HostName, Settings};

/// How long one name may take.
const LOOKUP: Duration = Duration::from_secs(5);

/// What names were last known to resolve to, by name and port.
pub type Lookups = HashMap<(HostName, u16), Vec<SocketAddr>>;

/// Looks up every name that the trunks' addresses hold. A name that cannot be looked up keeps what
/// `known` has of it; names that are no longer used are left out.
pub async fn resolve(settings: &Settings, known: &Lookups) -> Lookups {
    let mut lookups = JoinSet::new();
    let mut results = Lookups::new();
    for trunk in &settings.trunks {
        for entry in &trunk.addresses {
            let address = &entry.address;
            let Host::Name(name) = &address.host else {
                continue;
            };
            let port = address.port.unwrap_or(trunk.transport.default_port());
            let key = (name.clone(), port);
            if results.contains_key(&key) {
                continue;
            }
            results.insert(key.clone(), known.get(&key).cloned().unwrap_or_default());
            lookups.spawn(async move {
                let lookup = async {
                    let found = lookup_host((key.0.as_str(), port)).await;
                    found
                        .map(Iterator::collect::<Vec<_>>)
                        .map_err(|error| error.to_string())
                };
                let found = timeout(LOOKUP, lookup)
                    .await
                    .unwrap_or_else(|_| Err("no answer in time".to_owned()));
                (key, found)
            });
        }
    }
    while let Some(joined) = lookups.join_next().await {
        match joined {
            Ok((key, Ok(mut found))) if !found.is_empty() => {
                // One order, whatever the resolver's: a change is then a change.
                found.sort();
                found.dedup();
                results.insert(key, found);
            }
            Ok(((name, _), found)) => {
                let why = found.err().unwrap_or_else(|| "no address".to_owned());
                tracing::warn!(%name, why, "a trunk's address could not be looked up; what is known of it stays");
            }
            Err(error) => tracing::warn!(%error, "a lookup ended early"),
        }
    }
    results
}
