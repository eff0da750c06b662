//! What a type cannot say: whether the parts of a configuration fit each other.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use crate::sip::Transport;

use super::{
    document::{
        Document,
        Step::{self, Index, Key},
    },
    error::Problem,
    settings::{Settings, Srtp, Trunk},
    tls::TlsFiles,
    values::{Host, REMEDY},
};

/// The longest name of a network interface in Linux.
const INTERFACE_NAME: usize = 15;
/// More calls at one time would not have a pair of ports each way on one address.
const CALLS: u32 = 1_000_000;

#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

struct Validator<'d> {
    settings: &'d Settings,
    document: &'d Document<'d>,
    findings: Findings,
}

pub(super) fn validate(settings: &Settings, document: &Document<'_>) -> Findings {
    let mut validator = Validator {
        settings,
        document,
        findings: Findings::default(),
    };
    validator.media();
    validator.limits();
    validator.log();
    validator.interfaces();
    validator.trunks();
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
        if media.flows < 2 || media.flows > 4_000_000 {
            self.error(
                &[Key("media"), Key("flows")],
                format!("a table of {} flows serves nothing", media.flows),
                "choose 2 to 4000000: two for each call",
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
        if level.parse::<tracing_subscriber::EnvFilter>().is_err() {
            self.error(
                &[Key("log"), Key("level")],
                format!("{level:?} is no level and no filter"),
                "use error, warn, info, debug or trace",
            );
        }
    }

    fn interfaces(&mut self) {
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

    fn trunks(&mut self) {
        let settings = self.settings;
        let mut names = HashSet::new();
        for (index, trunk) in settings.trunks.iter().enumerate() {
            let at = |key| [Key("trunk"), Index(index), Key(key)];
            let name = &trunk.name;
            if name.is_empty()
                || name.len() > 64
                || !name
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
            {
                self.error(
                    &at("name"),
                    format!("{name:?} cannot be the name of a trunk"),
                    "use up to 64 letters, digits, hyphens, underscores and dots",
                );
            }
            if !names.insert(name) {
                self.error(
                    &at("name"),
                    format!("a second [[trunk]] {name:?}"),
                    "give each trunk a name of its own",
                );
            }
            self.trunk_interface(trunk, &at("interface"));
            self.trunk_addresses(trunk, index);
            self.trunk_tls(trunk, index);
            if trunk.dscp.is_some_and(|dscp| dscp > 63) {
                self.error(
                    &at("dscp"),
                    "a code point has six bits".to_owned(),
                    "choose 0 to 63; 46 is expedited forwarding",
                );
            }
            for codec in &trunk.codecs {
                if codec.is_empty()
                    || !codec
                        .bytes()
                        .all(|octet| octet.is_ascii_alphanumeric() || b"-_.+".contains(&octet))
                {
                    self.error(
                        &at("codecs"),
                        format!("{codec:?} cannot be the name of a codec"),
                        "use the name in a=rtpmap, such as \"PCMU\", without clock rate or payload type",
                    );
                }
            }
            if trunk.srtp != Srtp::Off && trunk.transport != Transport::Tls {
                self.warn(
                    &at("srtp"),
                    format!(
                        "trunk {name:?} sends SRTP keys over {}, readable by anyone on the way",
                        trunk.transport
                    ),
                    "use transport = \"tls\"",
                );
            }
        }
    }

    fn trunk_interface(&mut self, trunk: &Trunk, at: &[Step]) {
        match self.settings.interface(&trunk.interface) {
            None => self.error(
                at,
                format!(
                    "trunk {:?} is on interface {:?}, which is not described",
                    trunk.name, trunk.interface
                ),
                "add an [[interface]] of that name, or name one that exists",
            ),
            Some(interface)
                if !interface
                    .addresses
                    .iter()
                    .any(|address| address.is_ipv4() == trunk.listen.is_ipv4()) =>
            {
                self.warn(
                    at,
                    format!(
                        "trunk {:?} signals over {}, and interface {:?} has no media address of that family",
                        trunk.name,
                        if trunk.listen.is_ipv4() { "IPv4" } else { "IPv6" },
                        trunk.interface
                    ),
                    "add one to the interface's addresses",
                );
            }
            Some(_) => {}
        }
    }

    fn trunk_addresses(&mut self, trunk: &Trunk, index: usize) {
        let at = |key| [Key("trunk"), Index(index), Key(key)];
        let listen = trunk.listen;
        if listen.ip().is_unspecified() || listen.ip().is_multicast() || listen.port() == 0 {
            self.error(
                &at("listen"),
                format!("trunk {:?} cannot listen on {listen}", trunk.name),
                "name one address and port of this machine: peers are told to send to it",
            );
        }
        if trunk.transport == Transport::Udp && self.settings.media.ports.contains(listen.port()) {
            self.error(
                &at("listen"),
                format!(
                    "trunk {:?} listens on {listen}, whose port is in [media] ports",
                    trunk.name
                ),
                "choose a port outside the range",
            );
        }
        if trunk.addresses.is_empty() && trunk.allowed_sources.is_empty() {
            self.error(
                &[Key("trunk"), Index(index)],
                format!(
                    "trunk {:?} has neither addresses nor allowed_sources: no call can go to it or come from it",
                    trunk.name
                ),
                "name at least one",
            );
        }
        for address in &trunk.addresses {
            if let Host::Address(ip) = address.host
                && ip.is_ipv4() != listen.is_ipv4()
            {
                self.error(
                    &at("addresses"),
                    format!(
                        "{address} cannot be reached from {listen}, which is of the other family"
                    ),
                    "use addresses of one family in a trunk; a second trunk serves the other",
                );
            }
        }
        for range in &trunk.allowed_sources {
            if matches!(range, IpNet::V4(_)) != listen.is_ipv4() {
                self.warn(
                    &at("allowed_sources"),
                    format!(
                        "nothing from {range} can come to {listen}, which is of the other family"
                    ),
                    "remove the range",
                );
            }
        }
        for destination in &trunk.destinations {
            if !trunk.admits(destination.address.ip()) {
                self.warn(
                    &at("allowed_sources"),
                    format!(
                        "calls go to {}, from where none may come",
                        destination.address
                    ),
                    "add it to allowed_sources if it may call, too",
                );
            }
        }
    }

    fn trunk_tls(&mut self, trunk: &Trunk, index: usize) {
        let at = [Key("trunk"), Index(index), Key("tls")];
        match (&trunk.tls, trunk.transport) {
            (None, Transport::Tls) => self.error(
                &[Key("trunk"), Index(index), Key("transport")],
                format!("trunk {:?} is TLS and has no certificate", trunk.name),
                "add [trunk.tls] with certificate and key",
            ),
            (Some(_), Transport::Udp | Transport::Tcp) => self.error(
                &at,
                format!(
                    "trunk {:?} has certificates and speaks {}",
                    trunk.name, trunk.transport
                ),
                "set transport = \"tls\" or remove [trunk.tls]",
            ),
            (Some(tls), Transport::Tls) => {
                if let Err(problem) = TlsFiles::read(tls) {
                    let (what, remedy) = problem
                        .text
                        .split_once(REMEDY)
                        .unwrap_or((&problem.text, "correct it"));
                    self.error(
                        &[at[0], at[1], at[2], Key(problem.key)],
                        what.to_owned(),
                        remedy,
                    );
                }
            }
            (None, _) => {}
        }
    }

    /// Trunks that share an address must be told apart by where a message comes from.
    fn listeners(&mut self) {
        let trunks = &self.settings.trunks;
        for (index, trunk) in trunks.iter().enumerate() {
            for earlier in trunks.iter().take(index) {
                if earlier.listen != trunk.listen {
                    continue;
                }
                let at = |key| [Key("trunk"), Index(index), Key(key)];
                if earlier.transport != trunk.transport {
                    if earlier.transport != Transport::Udp && trunk.transport != Transport::Udp {
                        self.error(
                            &at("listen"),
                            format!(
                                "trunks {:?} and {:?} listen on {} for TCP and for TLS",
                                earlier.name, trunk.name, trunk.listen
                            ),
                            "choose another port; TLS has 5061",
                        );
                    }
                    continue;
                }
                if let (Some(one), Some(other)) = (&earlier.tls, &trunk.tls)
                    && (one.certificate != other.certificate
                        || one.key != other.key
                        || one.require_client_certificate != other.require_client_certificate
                        || (one.require_client_certificate && one.roots != other.roots))
                {
                    self.error(
                        &at("tls"),
                        format!(
                            "trunks {:?} and {:?} listen on {} with different certificates",
                            earlier.name, trunk.name, trunk.listen
                        ),
                        "use one certificate for both (it may hold several names), or another port",
                    );
                }
                if let Some((one, other)) = overlap(earlier, trunk) {
                    self.error(
                        &at("allowed_sources"),
                        format!(
                            "trunks {:?} and {:?} listen on {} and both admit hosts of {one} and {other}: nobody could tell whose call it is",
                            earlier.name, trunk.name, trunk.listen
                        ),
                        "make the ranges disjoint, or let one trunk listen on another port",
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
            match settings.trunk(&route.trunk) {
                None => self.error(
                    &at("trunk"),
                    format!("a route to {:?}, and there is no such trunk", route.trunk),
                    "name a [[trunk]]",
                ),
                Some(trunk) if trunk.addresses.is_empty() => self.error(
                    &at("trunk"),
                    format!("a route to {:?}, which has no addresses", route.trunk),
                    "add addresses to the trunk",
                ),
                Some(_) => {}
            }
            let earlier = settings.routes.iter().take(index).any(|earlier| {
                (earlier.from.is_empty() || earlier.from == route.from)
                    && (earlier.number.is_none() || earlier.number == route.number)
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

/// Two ranges, one of each trunk, that share a host.
fn overlap(one: &Trunk, other: &Trunk) -> Option<(IpNet, IpNet)> {
    let ranges = |trunk: &Trunk| -> Vec<IpNet> {
        if trunk.allowed_sources.is_empty() {
            trunk
                .destinations
                .iter()
                .map(|destination| IpNet::from(destination.address.ip()))
                .collect()
        } else {
            trunk.allowed_sources.clone()
        }
    };
    let others = ranges(other);
    ranges(one).into_iter().find_map(|first| {
        others
            .iter()
            .find(|second| first.contains(&second.network()) || second.contains(&first.network()))
            .map(|second| (first, *second))
    })
}
