//! What a type cannot say: whether the parts of a configuration fit each other.

mod trunks;

use std::collections::{HashMap, HashSet};

use relay_user::offload::MOST_FLOWS;

use super::{
    document::{
        Document,
        Step::{self, Index, Key},
    },
    error::Problem,
    settings::Settings,
    tls::Authorities,
};

/// The longest name of a network interface in Linux.
const INTERFACE_NAME: usize = 15;
/// More calls at one time than any machine carries.
const CALLS: u32 = 1_000_000;

/// As many keys as a flow entry can tell apart.
const SRTP_STREAMS: u32 = 1 << 20;

#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

struct Validator<'d> {
    settings: &'d Settings,
    document: &'d Document<'d>,
    findings: Findings,
    authorities: Authorities,
}

pub(super) fn validate(settings: &Settings, document: &Document<'_>) -> Findings {
    let mut validator = Validator {
        settings,
        document,
        findings: Findings::default(),
        authorities: Authorities::new(),
    };
    validator.media();
    validator.limits();
    validator.log();
    validator.interfaces();
    validator.trunks();
    validator.tenants();
    validator.listeners();
    validator.routes();
    validator.findings
}

impl Validator<'_> {
    fn problem(&self, path: &[Step], what: String, remedy: &str) -> Problem {
        Problem {
            line: Some(self.document.line(path)),
            what,
            remedy: remedy.to_owned(),
        }
    }

    fn error(&mut self, path: &[Step], what: String, remedy: &str) {
        let problem = self.problem(path, what, remedy);
        self.findings.errors.push(problem);
    }

    fn warn(&mut self, path: &[Step], what: String, remedy: &str) {
        let problem = self.problem(path, what, remedy);
        self.findings.warnings.push(problem);
    }

    fn media(&mut self) {
        let media = &self.settings.media;
        if media.workers > 1024 {
            self.error(
                &[Key("media"), Key("workers")],
                format!("{} workers are more than 1024", media.workers),
                "use 0 for one a core",
            );
        }
        if !(2..=MOST_FLOWS).contains(&media.flows) {
            self.error(
                &[Key("media"), Key("flows")],
                format!("the kernel takes no table of {} flows", media.flows),
                &format!("choose 2 to {MOST_FLOWS}: two for each call"),
            );
        }
        if media.srtp_offload && !(2..=SRTP_STREAMS).contains(&media.srtp_streams) {
            self.error(
                &[Key("media"), Key("srtp_streams")],
                format!("a table of {} keys serves nothing", media.srtp_streams),
                "choose 2 to 1048576, two for each leg with SRTP, or srtp_offload = false",
            );
        }
    }

    fn limits(&mut self) {
        let limits = &self.settings.limits;
        let pairs = self.settings.media.ports.pairs();
        let flows = self.settings.media.flows;
        let mut check = |key: &'static str, value: u64, least: u64, most: u64| {
            if value < least || value > most {
                self.error(
                    &[Key("limits"), Key(key)],
                    format!("{key} = {value} is out of bounds"),
                    &format!("choose {least} to {most}"),
                );
            }
        };
        check("drain_seconds", limits.drain_seconds, 0, 86_400);
        check("calls", limits.calls.into(), 1, CALLS.into());
        check("ring_seconds", limits.ring_seconds, 1, 3_600);
        check(
            "message_octets",
            limits.message_octets as u64,
            1_500,
            1 << 20,
        );
        check("connections", limits.connections as u64, 1, 100_000);
        check("handshakes", limits.handshakes as u64, 1, 100_000);
        check("write_octets", limits.write_octets as u64, 65_536, 1 << 28);
        check("idle_seconds", limits.idle_seconds, 10, 86_400);
        if limits.calls > pairs && self.document.has(&[Key("limits"), Key("calls")]) {
            self.warn(
                &[Key("limits"), Key("calls")],
                format!(
                    "{} calls cannot all have ports: [media] ports holds {pairs} pairs for each address",
                    limits.calls
                ),
                "widen [media] ports or lower calls",
            );
        }
        if limits.calls.saturating_mul(2) > flows
            && self.document.has(&[Key("limits"), Key("calls")])
        {
            self.warn(
                &[Key("limits"), Key("calls")],
                format!(
                    "{} calls take twice as many flows, the kernel's table holds {flows}",
                    limits.calls
                ),
                "raise [media] flows or lower calls; what does not fit goes through userspace",
            );
        }
    }

    fn log(&mut self) {
        let level = &self.settings.log.level;
        // A filter takes a word that is no level for the name of a module, and hides all others.
        let is_word = !level.contains(['=', ',', '[', ':']);
        if level.is_empty()
            || is_word
                && level
                    .parse::<tracing_subscriber::filter::LevelFilter>()
                    .is_err()
            || level.parse::<tracing_subscriber::EnvFilter>().is_err()
        {
            self.error(
                &[Key("log"), Key("level")],
                format!("{level:?} is no level and no filter"),
                "use error, warn, info, debug or trace",
            );
        }
    }

    fn interfaces(&mut self) {
        if self.settings.interfaces.is_empty() {
            self.findings.errors.push(Problem {
                line: None,
                what: "there is no [[interface]], so no call could have media".to_owned(),
                remedy: "add one, with its name and addresses".to_owned(),
            });
        }
        let mut names = HashSet::new();
        let mut addresses = HashMap::new();
        for (index, interface) in self.settings.interfaces.iter().enumerate() {
            let at = [Key("interface"), Index(index), Key("name")];
            let name = &interface.name;
            if name.is_empty()
                || name.len() > INTERFACE_NAME
                || name.contains(|c: char| c.is_whitespace() || c == '/')
            {
                self.error(
                    &at,
                    format!("{name:?} cannot be the name of an interface"),
                    "use the name that `ip link` shows",
                );
            }
            if !names.insert(name) {
                self.error(
                    &at,
                    format!("a second [[interface]] {name:?}"),
                    "put all its addresses into one",
                );
            }
            let at = [Key("interface"), Index(index), Key("addresses")];
            if interface.addresses.is_empty() {
                self.error(
                    &at,
                    format!("interface {name:?} has no address for media"),
                    "name at least one that the interface has",
                );
            }
            for address in &interface.addresses {
                if address.is_unspecified() || address.is_multicast() {
                    self.error(
                        &at,
                        format!("{address} cannot be a media address"),
                        "name an address that the interface has; peers send their media to it",
                    );
                }
                if let Some(other) = addresses.insert(*address, name) {
                    self.error(
                        &at,
                        format!("{address} is named twice, by {other:?} and {name:?}"),
                        "an address belongs to one interface",
                    );
                }
            }
        }
    }

    fn routes(&mut self) {
        let settings = self.settings;
        for (index, route) in settings.routes.iter().enumerate() {
            let at = |key| [Key("route"), Index(index), Key(key)];
            for name in &route.from {
                if settings.trunk(name).is_none() {
                    self.error(
                        &at("from"),
                        format!("a route for calls from {name:?}, and there is no such trunk"),
                        "name a [[trunk]]",
                    );
                }
            }
            for (place, name) in route.trunks().enumerate() {
                let key = if place == 0 { "trunk" } else { "fallback" };
                match settings.trunk(name) {
                    None => self.error(
                        &at(key),
                        format!("a route to {name:?}, and there is no such trunk"),
                        "name a [[trunk]]",
                    ),
                    Some(trunk) if trunk.addresses.is_empty() => self.error(
                        &at(key),
                        format!("a route to {name:?}, which has no addresses"),
                        "add addresses to the trunk",
                    ),
                    Some(_) => {}
                }
            }
            let earlier = settings.routes.iter().take(index).any(|earlier| {
                (earlier.from.is_empty() || earlier.from == route.from)
                    && (earlier.number.is_none() || earlier.number == route.number)
                    && (earlier.host.is_none() || earlier.host == route.host)
            });
            if earlier {
                self.warn(
                    &[Key("route"), Index(index)],
                    "this route takes no call: an earlier one takes them all".to_owned(),
                    "remove it or move it up",
                );
            }
        }
        if settings.routes.is_empty() && !settings.trunks.is_empty() {
            self.findings.warnings.push(Problem {
                line: None,
                what: "there is no [[route]], so every call is answered with 404".to_owned(),
                remedy: "add one".to_owned(),
            });
        }
    }
}
