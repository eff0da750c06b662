//! What the rows are checked on: the session border controller between the twin, a carrier and a
//! contact centre.

use std::{
    fmt::Write,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use rcgen::ExtendedKeyUsagePurpose;

use crate::{
    daemon::{CallView, Daemon, METRICS, SIP_PORT, TLS_PORT},
    lab::{Lab, LabError, Party, Result, Side, wait_until},
    twin::{
        agent::{SOON, lock},
        authority::{Authority, Identity, Owner, Wanted},
        call::Call,
        dns::{Resolver, Service},
        incoming::Incoming,
        link::Link,
        message::Message,
        outgoing::{Invite, Outgoing},
        place::{Plain, Twin},
        rules::PROXIES,
        tls,
    },
};

/// The SBC's name, and the base domain of the names of its customers.
pub(super) const SBC: &str = "sbc.example.com";
/// Two customers' names.
pub(super) const CUSTOMERS: [&str; 2] = ["one.sbc.example.com", "two.sbc.example.com"];

/// How often OPTIONS go to a proxy where no row is about that, in seconds.
pub(super) const OPTIONS: u32 = 2;

/// The SBC's media address for users inside, where there is one.
pub(super) const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

/// How the SBC is set up.
#[derive(Clone, Debug)]
pub struct StageSettings {
    /// The names in the SBC's certificate.
    pub names: Vec<&'static str>,
    /// The names that the SBC's trunks to Teams go by, one trunk each.
    pub tenants: Vec<&'static str>,
    /// All of those listen on one port.
    pub one_port: bool,
    /// Demands a certificate of those that connect.
    pub mutual: bool,
    /// The addresses of the SBC's trunks to Teams, as the configuration has them, with the names in
    /// them as those of the certificates. `None`: the names of the proxies, and the first one's in
    /// all certificates.
    pub addresses: Option<&'static str>,
    /// The SRV records that the SBC's resolver has, by their names.
    pub services: Vec<(String, Vec<Service>)>,
    /// How often OPTIONS go to a proxy, in seconds: a proxy that was away is back as soon. `None`:
    /// as often as the SBC does it by itself.
    pub options: Option<u32>,
    /// Lines for each trunk to Teams.
    pub teams: String,
    /// The SBC has a second media address towards Teams: 192.0.2.11.
    pub inside: bool,
    /// Lines for the carrier's trunk.
    pub carrier: String,
    /// Lines for the whole file.
    pub top: String,
}

impl Default for StageSettings {
    fn default() -> Self {
        Self {
            names: vec![SBC],
            tenants: vec![SBC],
            one_port: false,
            mutual: false,
            addresses: None,
            services: Vec::new(),
            options: Some(OPTIONS),
            teams: String::new(),
            inside: false,
            carrier: String::new(),
            top: String::new(),
        }
    }
}

/// Everything that a row may use.
pub struct Stage {
    pub(super) twin: Twin,
    pub(super) carrier: Plain,
    pub(super) centre: Plain,
    pub(super) authority: Authority,
    pub(super) teams_identity: Identity,
    /// Where the SBC listens for Teams.
    pub(super) sbc_tls: SocketAddr,
    daemon: Mutex<Daemon>,
    link: Mutex<Option<Link>>,
    numbers: AtomicU32,
    _resolver: Resolver,
    pub(super) lab: Lab,
}

/// Where the SBC listens for a customer's calls.
pub(super) fn tenant_address(index: usize) -> SocketAddr {
    let port = u16::try_from(index).map_or(TLS_PORT, |index| TLS_PORT + index);
    SocketAddr::new(Party::Teams.ipv4(Side::Sbc), port)
}

/// The twin's address at a place of 2, 3 and 4.
fn teams_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 2 + index)
}

impl Stage {
    /// Brings it up.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub fn new(settings: &StageSettings) -> Result<Self> {
        let lab = Lab::new()?;
        let teams = lab.peer(Party::Teams);
        for index in [1, 2, 8] {
            let address = format!("{}/24", teams_address(index));
            teams.run("ip", &["address", "add", &address, "dev", "eth0"])?;
        }
        let mut names: Vec<(&str, Vec<Ipv4Addr>)> = (0..)
            .zip(PROXIES)
            .map(|(index, name)| (name, vec![teams_address(index)]))
            .collect();
        if settings.inside {
            let address = format!("{INSIDE}/24");
            let device = Party::Teams.interface();
            lab.sbc()
                .run("ip", &["address", "add", &address, "dev", device])?;
        }
        // What Teams' Record-Route and Contact name.
        for name in [
            "sip-du-a-eu.pstnhub.microsoft.com",
            "api-du-a-euwe.pstnhub.microsoft.com",
        ] {
            names.push((name, vec![teams_address(0)]));
        }
        let resolver = SocketAddr::from((teams_address(0), 53));
        lab.sbc().set_resolver(resolver.ip())?;
        let resolver = Resolver::start(&teams.door(), resolver, names)?;
        for (name, records) in &settings.services {
            resolver.set_services(name, records);
        }

        let authority = Authority::new("Twin")?;
        let roots = authority.write_roots(lab.directory())?;
        let certificate =
            sbc_identity(&authority, &settings.names)?.write(lab.directory(), "sbc")?;
        let teams_identity = authority.issue(
            Owner::Teams,
            &Wanted {
                common_name: PROXIES[0],
                alternatives: &PROXIES,
                usages: &[ExtendedKeyUsagePurpose::ServerAuth],
            },
        )?;
        let trusted = authority.roots()?;
        let server = tls::server(&teams_identity, &trusted, &tls::VERSIONS)?;
        let client = tls::client(
            Some(&teams_identity),
            &trusted,
            &tls::VERSIONS,
            &tls::SUITES,
        )?;
        let addresses = [0, 1, 2].map(|index| SocketAddr::from((teams_address(index), TLS_PORT)));
        let twin = Twin::start(&teams.door(), &addresses, &server, &client)?;
        let plain = |name, party: Party| {
            let address = SocketAddr::new(party.ipv4(Side::Peer), SIP_PORT);
            Plain::start(name, &lab.peer(party).door(), address)
        };
        let carrier = plain("the carrier", Party::Carrier)?;
        let centre = plain("the contact centre", Party::ContactCentre)?;
        let text = configuration(settings, &lab, &certificate, &roots);
        let daemon = Mutex::new(Daemon::start_with(&lab, &text, None)?);
        Ok(Self {
            twin,
            carrier,
            centre,
            authority,
            teams_identity,
            sbc_tls: tenant_address(0),
            daemon,
            link: Mutex::new(None),
            numbers: AtomicU32::new(1),
            _resolver: resolver,
            lab,
        })
    }

    /// A number that was not called before.
    pub(super) fn number(&self, prefix: &str) -> String {
        format!(
            "{prefix}{:05}",
            self.numbers.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Where the SBC listens for a plain party.
    pub(super) fn sbc(&self, party: Party) -> SocketAddr {
        SocketAddr::new(party.ipv4(Side::Sbc), SIP_PORT)
    }

    /// An address of a proxy of the twin's.
    pub(super) fn proxy_address(&self, proxy: usize) -> IpAddr {
        self.twin.address(proxy).ip()
    }

    /// The twin's connection to the SBC, opened when there is none.
    pub(super) fn teams_link(&self) -> Result<Link> {
        let mut kept = lock(&self.link);
        if let Some(link) = &*kept
            && link.connection().is_some_and(|link| !link.is_closed())
        {
            return Ok(link.clone());
        }
        let link = self.twin.connect(0, self.sbc_tls, SBC)?;
        *kept = Some(link.clone());
        Ok(link)
    }

    /// The carrier calls Teams; the INVITE may be changed first.
    pub(super) fn carrier_calls_teams(
        &self,
        change: impl FnOnce(&mut Invite),
    ) -> Result<(Outgoing, Incoming)> {
        self.plain_calls_teams(&self.carrier, Party::Carrier, change)
    }

    /// A plain party calls Teams.
    pub(super) fn plain_calls_teams(
        &self,
        plain: &Plain,
        party: Party,
        change: impl FnOnce(&mut Invite),
    ) -> Result<(Outgoing, Incoming)> {
        let number = self.number("+1666");
        let mark = self.twin.agent.mark();
        let outgoing = self.plain_dials(plain, party, &number, change)?;
        let incoming = self.twin.agent.incoming(mark, &number, SOON)?;
        refuse_broken(&incoming)?;
        Ok((outgoing, incoming))
    }

    /// A plain party calls a number, whoever takes it.
    pub(super) fn plain_dials(
        &self,
        plain: &Plain,
        party: Party,
        number: &str,
        change: impl FnOnce(&mut Invite),
    ) -> Result<Outgoing> {
        let sbc = self.sbc(party);
        let mut invite = plain.invite(number, "+15550100", sbc);
        change(&mut invite);
        plain.agent.invite(&plain.link(sbc), &invite)
    }

    /// A Teams user calls over the carrier.
    ///
    /// # Errors
    /// When the call does not reach the carrier.
    pub fn teams_calls_carrier(
        &self,
        change: impl FnOnce(&mut Invite),
    ) -> Result<(Outgoing, Incoming)> {
        let number = self.number("+1777");
        let mark = self.carrier.agent.mark();
        let outgoing = self.teams_dials(&number, change)?;
        let incoming = self.carrier.agent.incoming(mark, &number, SOON);
        self.explain(outgoing, incoming)
    }

    /// A Teams user calls the contact centre.
    pub(super) fn teams_calls_centre(&self) -> Result<(Outgoing, Incoming)> {
        let number = self.number("+1555");
        let mark = self.centre.agent.mark();
        let outgoing = self.teams_dials(&number, |_| {})?;
        let incoming = self.centre.agent.incoming(mark, &number, SOON);
        self.explain(outgoing, incoming)
    }

    /// Says how a call was refused, when it was.
    fn explain(
        &self,
        outgoing: Outgoing,
        incoming: Result<Incoming>,
    ) -> Result<(Outgoing, Incoming)> {
        match incoming {
            Ok(incoming) => Ok((outgoing, incoming)),
            Err(error) => Err(
                match outgoing.wait_status(300..700, Duration::from_millis(100)) {
                    Ok(refusal) => LabError::new(format!(
                        "Teams' call was refused: {}",
                        refusal.message.start
                    )),
                    Err(_) => error,
                },
            ),
        }
    }

    /// A Teams user calls a number, whoever takes it.
    pub(super) fn teams_dials(
        &self,
        number: &str,
        change: impl FnOnce(&mut Invite),
    ) -> Result<Outgoing> {
        let link = self.teams_link()?;
        let mut invite = Twin::invite(number, "+15550199", SBC);
        change(&mut invite);
        self.twin.call(&link, &invite)
    }

    /// Takes connections at a proxy, or breaks each off and those that are up.
    pub fn set_proxy_open(&self, proxy: usize, open: bool) {
        self.twin.set_open(proxy, open);
    }

    /// The carrier calls Teams and is refused.
    ///
    /// # Errors
    /// When it is not.
    pub fn refused_by_teams(&self, limit: Duration) -> Result<Message> {
        let number = self.number("+1666");
        let mut outgoing = self.plain_dials(&self.carrier, Party::Carrier, &number, |_| {})?;
        outgoing.refused(limit)
    }

    /// A call from the carrier that Teams has answered: the carrier's side, Teams' side.
    ///
    /// # Errors
    /// When it does not come about.
    pub fn carrier_to_teams(&self) -> Result<(Call, Call)> {
        let (outgoing, incoming) = self.carrier_calls_teams(|_| {})?;
        connect(outgoing, incoming)
    }

    /// A call from Teams that the carrier has answered: Teams' side, the carrier's side.
    pub(super) fn teams_to_carrier(&self) -> Result<(Call, Call)> {
        let (outgoing, incoming) = self.teams_calls_carrier(|_| {})?;
        connect(outgoing, incoming)
    }

    /// Replaces the SBC's certificate by another of the same names and has it read.
    pub(super) fn renew_certificate(&self) -> Result<Vec<u8>> {
        let identity = sbc_identity(&self.authority, &[SBC])?;
        identity.write(self.lab.directory(), "sbc")?;
        lock(&self.daemon).signal(Signal::SIGHUP)?;
        Ok(identity.chain[0].to_vec())
    }

    /// Whether the SBC runs.
    pub(super) fn is_running(&self) -> bool {
        lock(&self.daemon).is_running()
    }

    /// The calls that the SBC knows.
    ///
    /// # Errors
    /// When it does not say.
    pub fn calls(&self) -> Result<Vec<CallView>> {
        lock(&self.daemon).calls()
    }

    /// One of the commands over the SBC's admin socket, as JSON.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, command: &str) -> Result<serde_json::Value> {
        lock(&self.daemon).ask(&[command])
    }

    /// The sum of a metric of the SBC's over the series with these labels.
    pub(super) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        lock(&self.daemon).metric(&self.lab, name, labels)
    }

    /// What the SBC has logged.
    pub fn log(&self) -> String {
        lock(&self.daemon).log()
    }

    /// Waits until a plain party's next call reaches Teams: after a start, or once all is back.
    ///
    /// # Errors
    /// When none does for half a minute.
    pub fn wait_ready(&self) -> Result<()> {
        let mut last = None;
        let ready = wait_until(Duration::from_secs(30), || {
            match self.carrier_to_teams() {
                Ok((caller, callee)) => {
                    let _ = caller.bye();
                    drop(callee);
                    return true;
                }
                Err(error) => last = Some(error),
            }
            false
        });
        match last {
            Some(error) if !ready => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until calls go to the first proxy: once it is back, with nothing held against it.
    ///
    /// # Errors
    /// When none does within `limit`.
    pub fn wait_first(&self, limit: Duration) -> Result<()> {
        let first = wait_until(limit, || {
            self.carrier_calls_teams(|_| {})
                .is_ok_and(|(_outgoing, incoming)| {
                    self.twin.proxy_of(&incoming.arrival.link) == Some(0)
                })
        });
        if first {
            return Ok(());
        }
        Err(LabError::new(format!(
            "no call at the first proxy within {} s",
            limit.as_secs()
        )))
    }

    /// Writes down everything that was said.
    pub(super) fn write_trace(&self, path: &std::path::Path) -> Result<()> {
        let mut text = String::new();
        for agent in [&self.twin.agent, &self.carrier.agent, &self.centre.agent] {
            let _ = writeln!(text, "{}", agent.trace());
        }
        let _ = writeln!(text, "{}", self.log());
        fs::write(path, text).map_err(|error| LabError::new(format!("{}: {error}", path.display())))
    }
}

/// The answer and its ACK at one end, what comes of it at the other: the caller's side of the call,
/// then the callee's.
///
/// # Errors
/// When one of them does not get through.
pub fn connect(outgoing: Outgoing, incoming: Incoming) -> Result<(Call, Call)> {
    connect_with(outgoing, move || incoming.answer())
}

/// As [`connect`], the callee's part as told.
///
/// # Errors
/// As there.
pub fn connect_with(
    outgoing: Outgoing,
    answer: impl FnOnce() -> Result<Call> + Send,
) -> Result<(Call, Call)> {
    thread::scope(|scope| {
        let answering = scope.spawn(answer);
        let caller = outgoing.answered(SOON);
        let callee = answering
            .join()
            .map_err(|_| LabError::new("answering panicked"))?;
        Ok((caller?, callee?))
    })
}

/// Teams would not have let this INVITE ring.
fn refuse_broken(incoming: &Incoming) -> Result<()> {
    let broken = &incoming.arrival.broken;
    match broken.iter().find(|rule| rule.refusal().is_some()) {
        Some(rule) => Err(LabError::new(format!("Teams refuses the INVITE: {rule}"))),
        None => Ok(()),
    }
}

fn sbc_identity(authority: &Authority, names: &[&str]) -> Result<Identity> {
    authority.issue(
        Owner::Sbc,
        &Wanted {
            common_name: names.first().copied().unwrap_or(SBC),
            alternatives: names,
            usages: &[],
        },
    )
}

fn configuration(
    settings: &StageSettings,
    lab: &Lab,
    certificate: &[PathBuf; 2],
    roots: &std::path::Path,
) -> String {
    let mut text = format!(
        "{}[media]\nports = \"20000-29999\"\nxdp = \"native\"\n\n[admin]\nmetrics = \"{METRICS}\"\n\
         socket = \"{}\"\n\n[limits]\ndrain_seconds = 1\n\n",
        settings.top,
        lab.directory().join("admin.sock").display(),
    );
    for party in Party::ALL {
        let _ = write!(
            text,
            "[[interface]]\nname = \"{}\"\naddresses = [\"{}\"{}]\n\n",
            party.interface(),
            party.ipv4(Side::Sbc),
            if settings.inside && party == Party::Teams {
                format!(", \"{INSIDE}\"")
            } else {
                String::new()
            },
        );
    }
    for party in [Party::Carrier, Party::ContactCentre] {
        let (sbc, peer) = (party.ipv4(Side::Sbc), party.ipv4(Side::Peer));
        let _ = write!(
            text,
            "[[trunk]]\nname = \"{}\"\ninterface = \"{}\"\ntransport = \"udp\"\n\
             listen = \"{sbc}:{SIP_PORT}\"\naddresses = [\"{peer}:{SIP_PORT}\"]\n\
             allowed_sources = [\"{peer}/32\"]\nlatching = \"relatch-on-reinvite\"\n\
             sip.trusted = true\nsip.forwarding = \"diversion\"\n{}\n",
            party.trunk(),
            party.interface(),
            if party == Party::Carrier {
                &settings.carrier
            } else {
                ""
            },
        );
    }
    let interface = Party::Teams.interface();
    let names = PROXIES.map(|name| format!("\"{name}\"")).join(", ");
    let (names, server_name) = match settings.addresses {
        None => (
            names.as_str(),
            format!("tls.server_name = \"{}\"\n", PROXIES[0]),
        ),
        Some(addresses) => (addresses, String::new()),
    };
    for (index, tenant) in settings.tenants.iter().enumerate() {
        let listen = tenant_address(if settings.one_port { 0 } else { index });
        let _ = write!(
            text,
            "[[trunk]]\nname = \"teams{index}\"\ninterface = \"{interface}\"\ntransport = \"tls\"\n\
             listen = \"{listen}\"\naddresses = [{names}]\nallowed_sources = [\"192.0.2.0/29\"]\n\
             media_sources = [\"192.0.2.0/29\"]\nsrtp = \"require\"\nhold = \"inactive\"\n\
             domain = \"{tenant}\"\ntls.certificate = \"{}\"\ntls.key = \"{}\"\ntls.roots = \"{}\"\n\
             sip.profile = \"teams\"\nsip.elin = true\n{server_name}tls.require_client_certificate = {}\n{}\n",
            certificate[0].display(),
            certificate[1].display(),
            roots.display(),
            settings.mutual,
            settings.teams,
        );
        if let Some(seconds) = settings.options {
            let _ = writeln!(text, "options.interval_seconds = {seconds}\n");
        }
    }
    let second = settings.tenants.len().saturating_sub(1);
    for (number, to, fallback) in [
        ("^\\\\+1666", "teams0", ""),
        ("^\\\\+1667", &format!("teams{second}")[..], ""),
        ("^\\\\+1555", "contact-centre", ""),
        ("^\\\\+1777", "carrier", ""),
        ("^\\\\+1888", "carrier", "\"contact-centre\""),
    ] {
        let _ = write!(
            text,
            "[[route]]\nnumber = \"{number}\"\ntrunk = \"{to}\"\nfallback = [{fallback}]\n\n"
        );
    }
    text
}
