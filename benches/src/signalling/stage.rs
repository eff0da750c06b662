//! Namespaces, and in the middle one Trunkline or nothing.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tests::{
    daemon::{Daemon, METRICS, SIP_PORT},
    lab::{Lab, Namespace, Party, Side},
};

use super::{Failure, Media};

/// The parties' networks, the caller's first.
const PARTIES: [Party; 2] = [Party::Carrier, Party::ContactCentre];
/// The ports for media, in pairs: 27,000 calls for each address.
const PORTS: &str = "10000-63999";
/// How many media addresses each side has beside its first.
const MORE_ADDRESSES: u8 = 1;
/// Room for SRTP, which none of these calls has.
const SRTP_STREAMS: u32 = 1_000;

/// What Trunkline is started with.
#[derive(Clone, Copy, Debug)]
pub struct StageSettings {
    pub xdp: &'static str,
    /// The calls that there is room for.
    pub calls: u32,
    /// The most descriptors that Trunkline may have.
    pub descriptors: u32,
}

impl StageSettings {
    pub fn of(media: Media) -> Self {
        Self {
            xdp: match media {
                Media::None => "off",
                Media::Offloaded => "native",
            },
            calls: 20_000,
            descriptors: 20_000,
        }
    }
}

/// Where a load is run.
pub struct Stage {
    pub lab: Lab,
    /// What stands between the parties; without it they are wired to each other through the
    /// kernel's own forwarding.
    pub daemon: Option<Daemon>,
}

impl Stage {
    /// Callers and callees with Trunkline between them.
    ///
    /// # Errors
    /// When something does not start.
    pub fn new(settings: &StageSettings) -> Result<Self, Failure> {
        let lab = Lab::new()?;
        for party in PARTIES {
            for address in more_addresses(party) {
                lab.sbc().run(
                    "ip",
                    &[
                        "address",
                        "add",
                        &format!("{address}/24"),
                        "dev",
                        party.interface(),
                    ],
                )?;
            }
        }
        let text = configuration(&lab, settings);
        let daemon = Daemon::start_with(&lab, &text, Some(settings.descriptors))?;
        Ok(Self {
            lab,
            daemon: Some(daemon),
        })
    }

    /// Callers and callees alone.
    ///
    /// # Errors
    /// When something does not start.
    pub fn direct() -> Result<Self, Failure> {
        let lab = Lab::new()?;
        lab.sbc().run("sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
        for party in PARTIES {
            let gateway = party.ipv4(Side::Sbc).to_string();
            lab.peer(party)
                .run("ip", &["route", "add", "default", "via", &gateway])?;
        }
        Ok(Self { lab, daemon: None })
    }

    pub fn namespace(&self, side: usize) -> &Namespace {
        self.lab.peer(PARTIES[side])
    }

    /// Where a side's SIPp is.
    pub fn local(&self, side: usize) -> SocketAddr {
        SocketAddr::new(PARTIES[side].ipv4(Side::Peer), SIP_PORT)
    }

    /// Where callers call to.
    pub fn called(&self) -> SocketAddr {
        match &self.daemon {
            Some(_) => SocketAddr::new(PARTIES[0].ipv4(Side::Sbc), SIP_PORT),
            None => self.local(1),
        }
    }

    /// The sum of a metric of Trunkline's.
    ///
    /// # Errors
    /// When it does not run.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64, Failure> {
        let daemon = self.daemon.as_ref().ok_or("there is no Trunkline")?;
        Ok(daemon.metric(&self.lab, name, labels)?)
    }

    /// # Errors
    /// When the kernel has not relayed most of the media: all but each stream's first packets.
    pub fn expect_offloaded(&self) -> Result<(), Failure> {
        let relayed = |path| {
            self.metric(
                "trunkline_packets_total",
                &[("path", path), ("reason", "relayed")],
            )
        };
        let (kernel, workers) = (relayed("xdp")?, relayed("userspace")?);
        println!("  {kernel:.0} packets relayed by XDP, {workers:.0} by the workers");
        if kernel > workers {
            return Ok(());
        }
        Err(format!("the workers relayed {workers} packets, the kernel {kernel}").into())
    }
}

fn more_addresses(party: Party) -> Vec<IpAddr> {
    let IpAddr::V4(first) = party.ipv4(Side::Sbc) else {
        return Vec::new();
    };
    let [a, b, c, d] = first.octets();
    (1..=MORE_ADDRESSES)
        .map(|more| Ipv4Addr::new(a, b, c, d + 10 + more).into())
        .collect()
}

fn configuration(lab: &Lab, settings: &StageSettings) -> String {
    let mut text = format!(
        "[media]\nports = \"{PORTS}\"\nxdp = \"{}\"\nflows = {}\n\
         srtp_streams = {SRTP_STREAMS}\n\n[admin]\nmetrics = \"{METRICS}\"\nsocket = \"{}\"\n\n\
         [log]\nlevel = \"warn\"\n\n[limits]\ndrain_seconds = 1\ncalls = {}\n\n",
        settings.xdp,
        settings.calls * 2,
        lab.directory().join("admin.sock").display(),
        settings.calls,
    );
    for party in PARTIES {
        let addresses: Vec<String> = std::iter::once(party.ipv4(Side::Sbc))
            .chain(more_addresses(party))
            .map(|address| format!("\"{address}\""))
            .collect();
        let peer = party.ipv4(Side::Peer);
        let _ = write!(
            text,
            "[[interface]]\nname = \"{interface}\"\naddresses = [{}]\n\n[[trunk]]\nname = \"{}\"\n\
             interface = \"{interface}\"\ntransport = \"udp\"\nlisten = \"{}\"\naddresses = \
             [\"{}\"]\nallowed_sources = [\"{peer}/32\"]\n\n",
            addresses.join(", "),
            party.trunk(),
            SocketAddr::new(party.ipv4(Side::Sbc), SIP_PORT),
            SocketAddr::new(peer, SIP_PORT),
            interface = party.interface(),
        );
    }
    let _ = write!(
        text,
        "[[route]]\nfrom = [\"{}\"]\nnumber = \"\"\ntrunk = \"{}\"\n",
        PARTIES[0].trunk(),
        PARTIES[1].trunk(),
    );
    text
}

/// Writes a file of the run's.
///
/// # Errors
/// What the file system says.
pub fn write(lab: &Lab, name: &str, content: &[u8]) -> Result<(), Failure> {
    let path = lab.directory().join(name);
    fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()).into())
}
