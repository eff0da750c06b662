//! A session border controller with a carrier on one side and a proxy not written here on the
//! other: Kamailio, over TLS with certificates both ways, and a user agent behind it.

use std::{net::SocketAddr, thread, time::Duration};

use rcgen::ExtendedKeyUsagePurpose;

use super::{
    agent::{SOON, token},
    authority::{Authority, Owner, Wanted},
    call::Call,
    dns::Resolver,
    incoming::Incoming,
    media::both_hear,
    message::Message,
    outgoing::Outgoing,
    place::Plain,
};
use crate::{
    daemon::{Daemon, METRICS, SIP_PORT, TLS_PORT},
    lab::{Lab, LabError, Party, Result, Side},
    peers::{Kamailio, KamailioConfig, Proofs},
};

/// The session border controller's name.
const SBC: &str = "sbc.example.com";
/// The name in the proxy's certificate.
const PROXY: &str = "proxy.example.com";
/// Where the user agent is, behind the proxy.
const AGENT: [u8; 4] = [192, 0, 2, 3];
/// Where the session border controller is for the proxy.
const BORDER: [u8; 4] = [192, 0, 2, 1];

/// Who begins, or who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Carrier,
    Agent,
}

/// All of it.
pub struct Proxied {
    pub kamailio: Kamailio,
    carrier: Plain,
    agent: Plain,
    daemon: Daemon,
    _resolver: Resolver,
    lab: Lab,
}

impl Proxied {
    /// Brings it up. `name` is the one that the proxy's certificate has to hold for the session
    /// border controller.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub fn new(name: &str) -> Result<Self> {
        Self::with(name, Proofs::None, "")
    }

    /// As [`Proxied::new`], where one side has to prove a password to the other; `keys` are further
    /// lines of the trunk to the proxy.
    ///
    /// # Errors
    /// As there.
    pub fn with(name: &str, proofs: Proofs, keys: &str) -> Result<Self> {
        let lab = Lab::new()?;
        let teams = lab.peer(Party::Teams);
        let address = format!("{}/24", std::net::Ipv4Addr::from(AGENT));
        teams.run("ip", &["address", "add", &address, "dev", "eth0"])?;
        // The proxy looks up the name in our Contact.
        let resolver = SocketAddr::from((AGENT, 53));
        teams.set_resolver(resolver.ip())?;
        let known = (SBC, vec![BORDER.into()]);
        let resolver = Resolver::start(&teams.door(), resolver, [known])?;

        let authority = Authority::new("Proxied")?;
        let roots = authority.write_roots(lab.directory())?;
        let identity = |owner, name: &str, file: &str| {
            let wanted = Wanted {
                common_name: name,
                alternatives: &[name],
                usages: &[ExtendedKeyUsagePurpose::ServerAuth],
            };
            authority
                .issue(owner, &wanted)?
                .write(lab.directory(), file)
        };
        let [proxy_certificate, proxy_key] = identity(Owner::Teams, PROXY, "proxy")?;
        // Kamailio's OpenSSL wants a certificate for clients where it demands one.
        let wanted = Wanted {
            common_name: SBC,
            alternatives: &[SBC],
            usages: &[],
        };
        let [certificate, key] = authority
            .issue(Owner::Sbc, &wanted)?
            .write(lab.directory(), "sbc")?;
        let (near, far) = (Party::Teams.ipv4(Side::Sbc), Party::Teams.ipv4(Side::Peer));
        let agent_address = SocketAddr::from((AGENT, SIP_PORT));
        let kamailio = Kamailio::start(
            &lab,
            &KamailioConfig {
                party: Party::Teams,
                name: PROXY,
                tls: SocketAddr::new(far, TLS_PORT),
                udp: SocketAddr::new(far, SIP_PORT),
                border: SocketAddr::new(near, TLS_PORT),
                agent: agent_address,
                certificate: &proxy_certificate,
                key: &proxy_key,
                roots: &roots,
                proofs,
            },
        )?;
        let carrier_address = SocketAddr::new(Party::Carrier.ipv4(Side::Peer), SIP_PORT);
        let carrier = Plain::start(
            "the carrier",
            &lab.peer(Party::Carrier).door(),
            carrier_address,
        )?;
        let agent = Plain::start("the agent", &teams.door(), agent_address)?;
        let carrier_near = Party::Carrier.ipv4(Side::Sbc);
        let text = format!(
            "[media]\nports = \"20000-29999\"\n\n[admin]\nmetrics = \"{METRICS}\"\n\
             socket = \"{socket}\"\n\n[limits]\ndrain_seconds = 1\n\n\
             [[interface]]\nname = \"{carrier_interface}\"\naddresses = [\"{carrier_near}\"]\n\n\
             [[interface]]\nname = \"{interface}\"\naddresses = [\"{near}\"]\n\n\
             [[trunk]]\nname = \"carrier\"\ninterface = \"{carrier_interface}\"\n\
             transport = \"udp\"\nlisten = \"{carrier_near}:{SIP_PORT}\"\n\
             addresses = [\"{carrier_address}\"]\n\n\
             [[trunk]]\nname = \"proxy\"\ninterface = \"{interface}\"\ntransport = \"tls\"\n\
             listen = \"{near}:{TLS_PORT}\"\naddresses = [\"{far}:{TLS_PORT}\"]\n\
             domain = \"{SBC}\"\ntls.certificate = \"{certificate}\"\ntls.key = \"{key}\"\n\
             tls.roots = \"{roots}\"\ntls.server_name = \"{name}\"\n\
             tls.require_client_certificate = true\noptions.interval_seconds = 10\n{keys}\n\
             [[route]]\nfrom = [\"carrier\"]\ntrunk = \"proxy\"\n\n\
             [[route]]\nfrom = [\"proxy\"]\ntrunk = \"carrier\"\n",
            socket = lab.directory().join("admin.sock").display(),
            carrier_interface = Party::Carrier.interface(),
            interface = Party::Teams.interface(),
            certificate = certificate.display(),
            key = key.display(),
            roots = roots.display(),
        );
        let daemon = Daemon::start_with(&lab, &text, None)?;
        Ok(Self {
            kamailio,
            carrier,
            agent,
            daemon,
            _resolver: resolver,
            lab,
        })
    }

    const fn end(&self, end: End) -> &Plain {
        match end {
            End::Carrier => &self.carrier,
            End::Agent => &self.agent,
        }
    }

    /// Where an end sends its requests, and the session border controller that they are for.
    fn next(&self, end: End) -> [SocketAddr; 2] {
        let carrier = SocketAddr::new(Party::Carrier.ipv4(Side::Sbc), SIP_PORT);
        match end {
            End::Carrier => [carrier; 2],
            End::Agent => [
                SocketAddr::new(Party::Teams.ipv4(Side::Peer), SIP_PORT),
                SocketAddr::new(Party::Teams.ipv4(Side::Sbc), TLS_PORT),
            ],
        }
    }

    /// An end calls the other one.
    ///
    /// # Errors
    /// When the INVITE cannot be sent.
    pub fn dials(&self, from: End, number: &str) -> Result<Outgoing> {
        let [hop, sbc] = self.next(from);
        let caller = self.end(from);
        let invite = caller.invite(number, "+15550100", sbc);
        caller.agent.invite(&caller.link(hop), &invite)
    }

    /// A call from an end that the other one has answered: both hear each other. The caller's side,
    /// the callee's.
    ///
    /// # Errors
    /// When it does not get through.
    pub fn call(&self, from: End, number: &str) -> Result<(Call, Call)> {
        let to = match from {
            End::Carrier => End::Agent,
            End::Agent => End::Carrier,
        };
        let callee = &self.end(to).agent;
        let mark = callee.mark();
        let outgoing = self.dials(from, number)?;
        let incoming: Incoming = callee.incoming(mark, number, SOON)?;
        let pair = thread::scope(|scope| {
            let answering = scope.spawn(move || incoming.answer());
            let caller = outgoing.answered(SOON);
            let callee = answering
                .join()
                .map_err(|_| LabError::new("answering panicked"))?;
            Ok::<_, LabError>((caller?, callee?))
        })?;
        hear(&pair.0, &pair.1)?;
        Ok(pair)
    }

    /// The status that OPTIONS of an end to the session border controller gets.
    ///
    /// # Errors
    /// When it gets none.
    pub fn asks(&self, end: End) -> Result<Option<u16>> {
        let [hop, sbc] = self.next(end);
        let plain = self.end(end);
        let link = plain.link(hop);
        let options = Message::request("OPTIONS", &format!("sip:{sbc}"))
            .with("Via", &plain.agent.via(&link))
            .with("Max-Forwards", "70")
            .with("From", &format!("<sip:{}>;tag={}", plain.address, token()))
            .with("To", &format!("<sip:{sbc}>"))
            .with("Call-ID", &token())
            .with("CSeq", "1 OPTIONS")
            .with("Contact", &format!("<sip:{}>", plain.address));
        let mark = plain.agent.mark();
        plain.agent.send(&link, &options)?;
        let answer = plain
            .agent
            .wait(mark, SOON, "the answer to OPTIONS", |it| {
                it.message.branch() == options.branch() && !it.message.is_request()
            })?;
        Ok(answer.message.status())
    }

    /// What a counter of discarded things says.
    ///
    /// # Errors
    /// When the metrics cannot be read.
    pub fn discards(&self, reason: &str) -> Result<f64> {
        let labels = [("place", "edge"), ("reason", reason)];
        self.daemon
            .metric(&self.lab, "trunkline_discards_total", &labels)
    }

    /// How often callers from the proxy had to prove a password, by what came of it.
    ///
    /// # Errors
    /// When the metrics cannot be read.
    pub fn authentications(&self, outcome: &str) -> Result<f64> {
        let labels = [("trunk", "proxy"), ("outcome", outcome)];
        self.daemon
            .metric(&self.lab, "trunkline_authentications_total", &labels)
    }

    /// What the session border controller knows of the proxy: whether it is up, and what came of
    /// the last OPTIONS to it.
    ///
    /// # Errors
    /// When it does not say.
    pub fn proxy_state(&self) -> Result<String> {
        let trunks = self.daemon.ask(&["trunks"])?;
        let trunks = trunks.as_array().into_iter().flatten();
        let address = trunks
            .filter(|trunk| trunk["name"] == "proxy")
            .map(|trunk| &trunk["addresses"][0])
            .next()
            .ok_or_else(|| LabError::new("there is no trunk to the proxy"))?;
        let told = |key: &str| address[key].as_str().unwrap_or_default().to_owned();
        Ok(format!("{}: {}", told("state"), told("answer")))
    }

    /// How many calls there are.
    ///
    /// # Errors
    /// When the session border controller does not say.
    pub fn calls(&self) -> Result<usize> {
        self.daemon.calls().map(|calls| calls.len())
    }

    /// What the session border controller has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

/// Caller and callee hear each other.
///
/// # Errors
/// When one of them does not.
pub fn hear(caller: &Call, callee: &Call) -> Result<()> {
    both_hear(("the caller", &caller.media), ("the callee", &callee.media))
}

/// What is waited for that comes at once.
pub const LIMIT: Duration = SOON;
