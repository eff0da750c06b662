//! The configuration of the laboratory's trunkline.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use crate::{
    lab::{Party, Side},
    peers::{Certificates, TEAMS_NAME},
};

/// Where everybody listens for SIP over UDP and TCP.
pub const SIP_PORT: u16 = 5060;
/// Where everybody listens for SIP over TLS.
pub const TLS_PORT: u16 = 5061;

/// What differs from run to run.
#[derive(Clone, Debug)]
pub struct DaemonSettings {
    /// `native`, `generic` or `off`.
    pub xdp: &'static str,
    /// The media port range, as the configuration writes it.
    pub ports: &'static str,
    /// The transport towards the contact centre over IPv4: `udp` or `tcp`.
    pub centre_transport: &'static str,
    /// How long a call may ring, in seconds.
    pub ring_seconds: u32,
    /// The codecs that the contact centre may use, as the configuration writes them.
    pub centre_codecs: &'static str,
    /// SRTP with the contact centre over IPv4: `off` or `require`.
    pub centre_srtp: &'static str,
    /// Whether the kernel may serve SRTP.
    pub srtp_offload: bool,
    /// Further keys of the carrier's trunk over IPv4.
    pub carrier_keys: &'static str,
    /// Further keys of the contact centre's trunk over IPv4.
    pub centre_keys: &'static str,
}

impl Default for DaemonSettings {
    fn default() -> Self {
        Self {
            xdp: "native",
            ports: "20000-29999",
            centre_transport: "udp",
            ring_seconds: 60,
            centre_codecs: "[]",
            centre_srtp: "off",
            srtp_offload: true,
            carrier_keys: "",
            centre_keys: "",
        }
    }
}

impl DaemonSettings {
    /// The whole file.
    ///
    /// Numbers that begin with `+1666` go from the carrier to Teams, all others of the carrier to
    /// the contact centre; Teams' and the contact centre's go to the carrier.
    pub(super) fn toml(
        &self,
        metrics: SocketAddr,
        socket: &Path,
        certificates: &Certificates,
    ) -> String {
        let mut text = format!(
            "[media]\nports = \"{}\"\nxdp = \"{}\"\nsrtp_offload = {}\n\n[admin]\nmetrics = \"{metrics}\"\n\
             socket = \"{}\"\n\n[limits]\ndrain_seconds = 10\nring_seconds = {}\n\n",
            self.ports,
            self.xdp,
            self.srtp_offload,
            socket.display(),
            self.ring_seconds
        );
        for party in Party::ALL {
            let _ = write!(
                text,
                "[[interface]]\nname = \"{}\"\naddresses = [\"{}\", \"{}\"]\n\n",
                party.interface(),
                party.ipv4(Side::Sbc),
                party.ipv6(Side::Sbc)
            );
        }
        trunk(&mut text, Party::Carrier, "carrier", Party::ipv4, "udp");
        let _ = writeln!(text, "{}", self.carrier_keys);
        trunk(&mut text, Party::Carrier, "carrier-v6", Party::ipv6, "udp");
        let centre = Party::ContactCentre;
        trunk(
            &mut text,
            centre,
            "contact-centre",
            Party::ipv4,
            self.centre_transport,
        );
        let _ = writeln!(
            text,
            "codecs = {}\nsrtp = \"{}\"\n{}",
            self.centre_codecs, self.centre_srtp, self.centre_keys
        );
        trunk(&mut text, centre, "contact-centre-v6", Party::ipv6, "udp");
        trunk(&mut text, Party::Teams, "teams", Party::ipv4, "tls");
        let _ = write!(
            text,
            "srtp = \"require\"\n\n[trunk.tls]\ncertificate = \"{}\"\n\
             key = \"{}\"\nroots = \"{}\"\nserver_name = \"{TEAMS_NAME}\"\n\n",
            certificates.sbc.display(),
            certificates.sbc_key.display(),
            certificates.roots.display()
        );
        for (from, number, to) in [
            ("carrier", "^\\\\+1666", "teams"),
            ("carrier", "", "contact-centre"),
            ("carrier-v6", "", "contact-centre-v6"),
            ("contact-centre", "", "carrier"),
            ("contact-centre-v6", "", "carrier-v6"),
            ("teams", "", "carrier"),
        ] {
            let _ = write!(
                text,
                "[[route]]\nfrom = [\"{from}\"]\nnumber = \"{number}\"\ntrunk = \"{to}\"\n\n"
            );
        }
        text
    }
}

fn trunk(
    text: &mut String,
    party: Party,
    name: &str,
    address: fn(Party, Side) -> IpAddr,
    transport: &str,
) {
    let port = if transport == "tls" {
        TLS_PORT
    } else {
        SIP_PORT
    };
    let peer = address(party, Side::Peer);
    let _ = write!(
        text,
        "\n[[trunk]]\nname = \"{name}\"\ninterface = \"{}\"\ntransport = \"{transport}\"\n\
         listen = \"{}\"\naddresses = [\"{}\"]\nallowed_sources = [\"{peer}/{}\"]\n",
        party.interface(),
        SocketAddr::new(address(party, Side::Sbc), port),
        SocketAddr::new(peer, port),
        if peer.is_ipv4() { 32 } else { 128 },
    );
}
