//! Whether each trunk makes sense, and beside the others.

use std::collections::HashSet;

use ipnet::IpNet;

use super::Validator;
use crate::{
    config::{
        document::Step::{self, Index, Key},
        settings::CallLimits,
        tls::TlsFiles,
        trunk::{Srtp, Trunk},
        values::{Host, REMEDY},
    },
    sip::Transport,
};

impl Validator<'_> {
    pub(super) fn trunks(&mut self) {
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
            self.trunk_media(trunk, index);
            self.trunk_addresses(trunk, index);
            self.trunk_tls(trunk, index);
            self.trunk_options(trunk, index);
            self.call_limits(&trunk.limits, ("trunk", index));
            if let Some(tenant) = &trunk.tenant
                && !settings.tenants.iter().any(|it| it.name == *tenant)
            {
                self.error(
                    &at("tenant"),
                    format!("trunk {name:?} is of tenant {tenant:?}, and there is no such tenant"),
                    "name a [[tenant]]",
                );
            }
            if trunk.dscp.is_some_and(|dscp| dscp > 63) {
                self.error(
                    &at("dscp"),
                    "a code point has six bits".to_owned(),
                    "choose 0 to 63; 46 is expedited forwarding",
                );
            }
            for header in trunk
                .sip
                .headers_allow
                .iter()
                .chain(&trunk.sip.headers_strip)
            {
                if header.is_empty()
                    || !header.bytes().all(|octet| {
                        octet.is_ascii_alphanumeric() || b"-_.!%*+`'~".contains(&octet)
                    })
                {
                    self.error(
                        &[Key("trunk"), Index(index), Key("sip")],
                        format!("{header:?} cannot be the name of a header field"),
                        "use the name before the colon, such as \"X-Customer\"",
                    );
                }
            }
            if trunk.sip.busy_cause.is_some_and(|cause| cause > 127) {
                self.error(
                    &[Key("trunk"), Index(index), Key("sip"), Key("busy_cause")],
                    "a cause of Q.850 has seven bits".to_owned(),
                    "choose 1 to 127; 17 is user busy",
                );
            }
            if let Some((what, remedy)) = trunk.numbers.fault() {
                self.error(&at("numbers"), what.to_owned(), remedy);
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

    fn trunk_media(&mut self, trunk: &Trunk, index: usize) {
        for (key, address) in [
            ("internal_address", trunk.internal_address),
            ("external_address", trunk.external_address),
        ] {
            let Some(address) = address else {
                continue;
            };
            let at = [Key("trunk"), Index(index), Key(key)];
            let mut interfaces = self.settings.interfaces.iter();
            if !interfaces.any(|interface| interface.addresses.contains(&address)) {
                self.error(
                    &at,
                    format!("{address} is no media address"),
                    "add it to the addresses of its [[interface]]",
                );
            }
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
        for (place, entry) in trunk.addresses.iter().enumerate() {
            let address = &entry.address;
            let priority = entry.rank(place).priority;
            let mut others = trunk.addresses.iter().enumerate();
            if entry.weight.is_some()
                && !others.any(|(other, it)| other != place && it.rank(other).priority == priority)
            {
                self.warn(
                    &[Key("trunk"), Index(index), Key("addresses"), Index(place)],
                    format!(
                        "the weight of {address} does nothing: no other address of trunk {:?} has priority {priority}",
                        trunk.name
                    ),
                    "give those that share the calls the same priority",
                );
            }
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

    pub(super) fn tenants(&mut self) {
        let settings = self.settings;
        let mut names = HashSet::new();
        for (index, tenant) in settings.tenants.iter().enumerate() {
            if tenant.name.is_empty() || !names.insert(&tenant.name) {
                self.error(
                    &[Key("tenant"), Index(index), Key("name")],
                    format!("a [[tenant]] {:?} that is no other's name", tenant.name),
                    "give each tenant a name of its own",
                );
            }
            self.call_limits(&tenant.limits, ("tenant", index));
        }
    }

    fn call_limits(&mut self, limits: &CallLimits, (table, index): (&'static str, usize)) {
        let at = |key| [Key(table), Index(index), Key("limits"), Key(key)];
        for (key, value) in [
            ("calls", limits.calls),
            ("calls_per_second", limits.calls_per_second),
        ] {
            if value == Some(0) {
                self.error(
                    &at(key),
                    format!("{key} = 0 lets no call through"),
                    "choose 1 or more, or leave it out for any number",
                );
            }
        }
        if let Some(code) = limits.code
            && !(400..700).contains(&code)
        {
            self.error(
                &at("code"),
                format!("{code} does not refuse a call"),
                "choose a code from 400 to 699, such as 486",
            );
        }
    }

    fn trunk_options(&mut self, trunk: &Trunk, index: usize) {
        let options = &trunk.options;
        let at = |key| [Key("trunk"), Index(index), Key("options"), Key(key)];
        let mut check = |key: &'static str, seconds: u32, least: u32| {
            if !(least..=86_400).contains(&seconds) {
                self.error(
                    &at(key),
                    format!("{key} = {seconds} is out of bounds"),
                    &format!("choose {least} to 86400"),
                );
            }
        };
        check(
            "interval_seconds",
            options.interval_seconds.unwrap_or_default(),
            0,
        );
        check("timeout_seconds", options.timeout_seconds, 1);
        check(
            "grace_seconds",
            options.grace_seconds.unwrap_or_default(),
            0,
        );
        for code in &options.down_codes {
            if !(300..700).contains(code) {
                self.error(
                    &at("down_codes"),
                    format!("{code} does not say that anybody is out of service"),
                    "choose codes from 300 to 699, such as 503",
                );
            }
        }
        if let Some(code) = trunk.sip.unavailable_code
            && !(400..700).contains(&code)
        {
            self.error(
                &[
                    Key("trunk"),
                    Index(index),
                    Key("sip"),
                    Key("unavailable_code"),
                ],
                format!("{code} does not refuse a call"),
                "choose a code from 400 to 699, such as 503",
            );
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
                if let Err(problem) = TlsFiles::read(tls, &mut self.authorities) {
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

    /// Trunks that share an address must be told apart by where a message comes from, or by the
    /// names that they go by.
    pub(super) fn listeners(&mut self) {
        let trunks = &self.settings.trunks;
        for (index, trunk) in trunks.iter().enumerate() {
            for earlier in trunks.iter().take(index) {
                if earlier.listen != trunk.listen {
                    continue;
                }
                let at = |key| [Key("trunk"), Index(index), Key(key)];
                let tcp_and_tls = |one: &Trunk, other: &Trunk| {
                    one.transport == Transport::Tls && other.speaks(Transport::Tcp)
                };
                if earlier.transport != trunk.transport {
                    if tcp_and_tls(earlier, trunk)
                        || tcp_and_tls(trunk, earlier)
                        || earlier.transport != Transport::Udp && trunk.transport != Transport::Udp
                    {
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
                let named_apart = match (&earlier.domain, &trunk.domain) {
                    (Some(one), Some(other)) => one != other,
                    _ => false,
                };
                if let (Some(one), Some(other)) = (&earlier.tls, &trunk.tls) {
                    if !named_apart
                        && (one.certificate != other.certificate || one.key != other.key)
                    {
                        self.error(
                            &at("tls"),
                            format!(
                                "trunks {:?} and {:?} listen on {} with different certificates",
                                earlier.name, trunk.name, trunk.listen
                            ),
                            "give each a domain of its own, use one certificate for both (it may hold several names), or another port",
                        );
                    }
                    // A certificate that was good for one trunk is then good for the other.
                    if one.require_client_certificate != other.require_client_certificate
                        || one.require_client_certificate
                            && (one.roots != other.roots
                                || earlier.peer_names() != trunk.peer_names())
                    {
                        self.error(
                            &at("tls"),
                            format!(
                                "trunks {:?} and {:?} listen on {} and demand different certificates of those who connect",
                                earlier.name, trunk.name, trunk.listen
                            ),
                            "use the same require_client_certificate, roots and peer_names for both, or another port",
                        );
                    }
                }
                if named_apart {
                    continue;
                }
                if let Some((one, other)) = overlap(earlier, trunk) {
                    self.error(
                        &at("allowed_sources"),
                        format!(
                            "trunks {:?} and {:?} listen on {} and both admit hosts of {one} and {other}: nobody could tell whose call it is",
                            earlier.name, trunk.name, trunk.listen
                        ),
                        "give each a domain of its own, make the ranges disjoint, or let one trunk listen on another port",
                    );
                }
            }
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
