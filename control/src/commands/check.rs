//! `trunkline check`.

use std::{collections::HashSet, fmt::Write as _, net::IpAddr, path::Path};

use control::{
    admin::octets,
    config::{Settings, Trunk, TrunkAddress, load, relay_config},
};
use relay_user::offload;

use super::print;

/// Says what is wrong with a file, or what it amounts to.
pub(super) fn check(file: &Path) -> Result<(), String> {
    let settings = load(file).map_err(|error| error.to_string())?;
    print(&summary(file, &settings))
}

fn summary(file: &Path, settings: &Settings) -> String {
    let mut text = String::new();
    for problem in &settings.warnings {
        let line = problem.line.map(|line| format!("{line}:"));
        let _ = writeln!(
            text,
            "{}:{} warning: {problem}",
            file.display(),
            line.unwrap_or_default()
        );
    }
    let _ = writeln!(text, "{} is sound", file.display());
    let offload = relay_config(settings, None).offload();
    let memory = offload::memory(&offload);
    let pairs = settings.media.ports.pairs();
    for interface in &settings.interfaces {
        let addresses: Vec<_> = interface
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        let _ = writeln!(
            text,
            "interface {}: media on {}, ports {}",
            interface.name,
            addresses.join(", "),
            settings.media.ports
        );
    }
    for trunk in &settings.trunks {
        let turns: Vec<_> = trunk.turns().iter().map(|turn| in_turn(turn)).collect();
        let _ = writeln!(
            text,
            "trunk {}: {} on {}, calls go to {}",
            trunk.name,
            trunk.transport,
            trunk.listen,
            if turns.is_empty() {
                "nobody".to_owned()
            } else {
                turns.join(", then ")
            }
        );
    }
    for (index, route) in settings.routes.iter().enumerate() {
        let _ = writeln!(
            text,
            "route {}: {}{} from {} to {}",
            index + 1,
            route
                .number
                .as_ref()
                .map_or("every number", |pattern| pattern.as_str()),
            route
                .host
                .as_ref()
                .map_or_else(String::new, |host| format!(" at {host}")),
            if route.from.is_empty() {
                "every trunk".to_owned()
            } else {
                route.from.join(", ")
            },
            route.trunk
        );
    }
    let _ = writeln!(
        text,
        "workers: {}\nXDP: {}, {} flows, {}, {} of memory for its maps on this machine\n\
         at most {} calls at one time: [limits] calls allows {}, the ports {} legs on each address, the kernel's flows {} calls",
        offload.workers,
        offload.mode,
        settings.media.flows,
        match offload.srtp_streams {
            0 => "SRTP in userspace".to_owned(),
            streams => format!("{streams} keys of SRTP"),
        },
        octets(memory),
        most_calls(settings),
        settings.limits.calls,
        pairs,
        settings.media.flows / 2,
    );
    text
}

/// The addresses of one priority, with their weights where there are several.
fn in_turn(addresses: &[(&TrunkAddress, u16)]) -> String {
    match addresses {
        [(alone, _)] => alone.to_string(),
        several => several
            .iter()
            .map(|(address, weight)| format!("{address} (weight {weight})"))
            .collect::<Vec<_>>()
            .join(" or "),
    }
}

/// How many calls find ports: each has two legs, each of these a pair on one of the addresses that
/// legs are given, the first of either family on an interface and those that trunks name.
fn most_calls(settings: &Settings) -> u32 {
    let firsts = settings.interfaces.iter().flat_map(|interface| {
        let first = |wanted: fn(&IpAddr) -> bool| {
            let mut addresses = interface.addresses.iter().copied();
            addresses.find(wanted)
        };
        [first(IpAddr::is_ipv4), first(IpAddr::is_ipv6)]
    });
    let named = settings.trunks.iter().flat_map(Trunk::media_addresses);
    let addresses: HashSet<IpAddr> = firsts.flatten().chain(named).collect();
    let legs = settings.media.ports.pairs() as usize * addresses.len();
    let calls = u32::try_from(legs / 2).unwrap_or(u32::MAX);
    settings.limits.calls.min(calls)
}
