//! A session border controller with a contact centre on one side and on the other a carrier that
//! is known by its SRV records: several peers over UDP and TCP, and a resolver that says where they
//! are.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    agent::{Mode, SOON},
    dns::{Resolver, Service},
    place::Plain,
};
use crate::{
    daemon::{Daemon, METRICS, SIP_PORT},
    lab::{Lab, LabError, Party, Result, Side},
};

/// The name that the carrier is known by.
const NAME: &str = "voice.example.com";
/// How many peers it has.
const PEERS: u8 = 4;
/// Stands for a port where nobody listens, on the last peer's host.
pub const NOBODY: usize = PEERS as usize;

/// All of it.
pub struct Serviced {
    peers: Vec<Plain>,
    centre: Plain,
    /// The name of its SRV records.
    services: String,
    numbers: std::cell::Cell<u32>,
    resolver: Resolver,
    daemon: Daemon,
    lab: Lab,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The peers that were sent the INVITE, in order, each once.
    pub tried: Vec<usize>,
    /// The status that the caller got.
    pub status: u16,
}

/// The status by which a peer takes a call.
pub const TAKEN: u16 = 486;

fn address(peer: u8) -> SocketAddr {
    let host = Ipv4Addr::new(198, 51, 100, 3 + peer.min(PEERS - 1));
    (host, 5070 + u16::from(peer)).into()
}

fn host(peer: usize) -> String {
    format!("peer-{}.example.com", peer.min(NOBODY - 1))
}

impl Serviced {
    /// Brings it up. `transport` is `udp` or `tcp`. `records` are the priority and the weight of
    /// each peer that is to be known at first; `keys` are further lines of the carrier's trunk.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub fn new(transport: &str, records: &[(usize, u16, u16)], keys: &str) -> Result<Self> {
        let lab = Lab::new()?;
        let carrier = lab.peer(Party::Carrier);
        let mut peers = Vec::new();
        let mut names = Vec::new();
        for (index, peer) in (0..PEERS).enumerate() {
            let place = address(peer);
            let assigned = format!("{}/24", place.ip());
            carrier.run("ip", &["address", "add", &assigned, "dev", "eth0"])?;
            let plain = Plain::start("a peer", &carrier.door(), place)?;
            plain.listen(&carrier.door())?;
            plain.agent.set_mode(None, Mode::Refuses(TAKEN));
            peers.push(plain);
            names.push((host(index), vec![Ipv4Addr::new(198, 51, 100, 3 + peer)]));
        }
        let at = SocketAddr::new(Party::Carrier.ipv4(Side::Peer), 53);
        lab.sbc().set_resolver(at.ip())?;
        let resolver = Resolver::start(&carrier.door(), at, names)?;
        let services = format!("_sip._{transport}.{NAME}");
        serve(&resolver, &services, records);
        let centre_address = SocketAddr::new(Party::ContactCentre.ipv4(Side::Peer), SIP_PORT);
        let door = lab.peer(Party::ContactCentre).door();
        let centre = Plain::start("the contact centre", &door, centre_address)?;
        let (near, far) = (Party::ContactCentre, Party::Carrier);
        let text = format!(
            "[media]\nports = \"20000-29999\"\n\n[admin]\nmetrics = \"{METRICS}\"\n\
             socket = \"{socket}\"\n\n[limits]\ndrain_seconds = 1\n\n\
             [[interface]]\nname = \"{}\"\naddresses = [\"{near_address}\"]\n\n\
             [[interface]]\nname = \"{}\"\naddresses = [\"{far_address}\"]\n\n\
             [[trunk]]\nname = \"centre\"\ninterface = \"{}\"\ntransport = \"udp\"\n\
             listen = \"{near_address}:{SIP_PORT}\"\naddresses = [\"{centre_address}\"]\n\n\
             [[trunk]]\nname = \"voice\"\ninterface = \"{}\"\ntransport = \"{transport}\"\n\
             listen = \"{far_address}:{SIP_PORT}\"\naddresses = [\"{NAME}\"]\n{keys}\n\
             [[route]]\nfrom = [\"centre\"]\ntrunk = \"voice\"\n",
            near.interface(),
            far.interface(),
            near.interface(),
            far.interface(),
            socket = lab.directory().join("admin.sock").display(),
            near_address = near.ipv4(Side::Sbc),
            far_address = far.ipv4(Side::Sbc),
        );
        let daemon = Daemon::start_with(&lab, &text, None)?;
        Ok(Self {
            peers,
            centre,
            services,
            numbers: std::cell::Cell::new(0),
            resolver,
            daemon,
            lab,
        })
    }

    /// Changes the SRV records: which peers there are, with their priorities and weights.
    pub fn serve(&self, records: &[(usize, u16, u16)]) {
        serve(&self.resolver, &self.services, records);
    }

    /// A peer says nothing more, or speaks again.
    pub fn set_silent(&self, peer: usize, silent: bool) {
        let mode = if silent {
            Mode::Silent
        } else {
            Mode::Refuses(TAKEN)
        };
        if let Some(peer) = self.peers.get(peer) {
            peer.agent.set_mode(None, mode);
        }
    }

    /// The contact centre calls over the carrier.
    ///
    /// # Errors
    /// When nothing comes of it in time.
    pub fn call(&self) -> Result<Attempt> {
        self.numbers.set(self.numbers.get() + 1);
        let number = format!("+4930{:06}", self.numbers.get());
        let marks: Vec<usize> = self.peers.iter().map(|it| it.agent.mark()).collect();
        let sbc = SocketAddr::new(Party::ContactCentre.ipv4(Side::Sbc), SIP_PORT);
        let invite = self.centre.invite(&number, "+15550100", sbc);
        let mut outgoing = self.centre.agent.invite(&self.centre.link(sbc), &invite)?;
        let refusal = outgoing.refused(SOON + Duration::from_secs(8))?;
        let mut tried = Vec::new();
        for (place, (peer, mark)) in self.peers.iter().zip(marks).enumerate() {
            let first = peer.agent.arrivals(mark).into_iter().find(|arrival| {
                let message = &arrival.message;
                message.is_request()
                    && message.method() == "INVITE"
                    && message.start.contains(&number)
            });
            tried.extend(first.map(|arrival| (arrival.at, place)));
        }
        tried.sort();
        Ok(Attempt {
            tried: tried.into_iter().map(|(_, place)| place).collect(),
            status: refusal.status().unwrap_or_default(),
        })
    }

    /// The state of each peer that the session border controller knows, as `trunkline trunks` tells
    /// it, with its priority and weight.
    ///
    /// # Errors
    /// When it does not say.
    pub fn states(&self) -> Result<BTreeMap<usize, String>> {
        let trunks = self.daemon.ask(&["trunks"])?;
        let trunk = trunks
            .as_array()
            .and_then(|trunks| trunks.iter().find(|trunk| trunk["name"] == "voice"))
            .ok_or_else(|| LabError::new("there is no trunk to the carrier"))?;
        let mut states = BTreeMap::new();
        for known in trunk["addresses"].as_array().into_iter().flatten() {
            let told = |key: &str| known[key].as_str().unwrap_or_default();
            let peer = (0..=PEERS).position(|peer| address(peer).to_string() == told("address"));
            let peer = peer.ok_or_else(|| LabError::new(format!("an unknown peer: {known}")))?;
            let text = format!("{} {} {}", told("priority"), known["weight"], told("state"));
            states.insert(peer, text);
        }
        Ok(states)
    }

    /// What the metrics say of a peer: 1 while it is in service, 0 while it is not; `None` when it
    /// is not known.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn is_up(&self, peer: usize) -> Result<Option<bool>> {
        let (_, text) = self.daemon.get(&self.lab, "/metrics")?;
        let address = u8::try_from(peer).map(address).map_err(LabError::new)?;
        let name = format!("trunkline_peer_up{{trunk=\"voice\",address=\"{address}\"}}");
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(&name)?.trim().parse::<f64>().ok());
        Ok(value.map(|value| value > 0.0))
    }

    /// What the session border controller has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

fn serve(resolver: &Resolver, name: &str, records: &[(usize, u16, u16)]) {
    let services: Vec<Service> = records
        .iter()
        .map(|&(peer, priority, weight)| {
            let port = 5070 + u16::try_from(peer).unwrap_or_default();
            Service::new(priority, weight, port, &host(peer))
        })
        .collect();
    resolver.set_services(name, &services);
}
