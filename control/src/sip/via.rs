//! The Via header.

use std::{fmt, net::IpAddr, net::SocketAddr};

use bytes::{Bytes, BytesMut};

use super::{Parameters, Text, Transport, lexer, uri};

/// One value of Via (RFC 3261 §20.42).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Via {
    /// The transport as received (`UDP`, `TLS`, or one that is not known here).
    pub transport: Text,
    /// `sent-by`'s host, IPv6 in brackets.
    pub host: Text,
    pub port: Option<u16>,
    pub parameters: Parameters,
}

impl Via {
    /// What begins the branch of every element that follows RFC 3261 (§8.1.1.7).
    pub const COOKIE: &'static str = "z9hG4bK";

    /// A Via of our own. `branch` must begin with [`Via::COOKIE`]. An IPv6 address may come with
    /// or without brackets.
    #[must_use]
    pub fn new(transport: Transport, host: &str, port: Option<u16>, branch: &str) -> Self {
        let mut parameters = Parameters::new();
        parameters.set("branch", branch);
        Self {
            transport: Text::from_static(transport.via_name()),
            host: if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]").into()
            } else {
                host.into()
            },
            port,
            parameters,
        }
    }

    /// `None` when the grammar is broken or the protocol is not SIP/2.0.
    #[must_use]
    pub fn parse(octets: &Bytes) -> Option<Self> {
        Self::parse_part(octets, octets)
    }

    pub(super) fn parse_part(whole: &Bytes, part: &[u8]) -> Option<Self> {
        let part = lexer::trim(part);
        let mut slashes = part.splitn(3, |octet| *octet == b'/');
        let name = lexer::trim(slashes.next()?);
        let version = lexer::trim(slashes.next()?);
        if !name.eq_ignore_ascii_case(b"SIP") || version != b"2.0" {
            return None;
        }
        let rest = lexer::trim(slashes.next()?);
        let space = rest.iter().position(|octet| lexer::is_white(*octet))?;
        let (transport, rest) = rest.split_at_checked(space)?;
        if !lexer::is_token(transport) {
            return None;
        }
        let rest = lexer::trim(rest);
        let end = rest
            .iter()
            .position(|octet| *octet == b';')
            .unwrap_or(rest.len());
        let (sent_by, parameters) = rest.split_at_checked(end)?;
        let (host, port) = lexer::host_and_port(lexer::trim(sent_by))?;
        Some(Self {
            transport: Text::new(lexer::share(whole, transport))?,
            host: Text::new(lexer::share(whole, host))?,
            port,
            parameters: Parameters::parse(whole, parameters)?,
        })
    }

    /// The branch.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.parameters.get("branch")
    }

    /// Whether the branch identifies the transaction, as RFC 3261 has it.
    #[must_use]
    pub fn has_cookie(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > Self::COOKIE.len()
                && branch
                    .get(..Self::COOKIE.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(Self::COOKIE))
        })
    }

    /// The `received` address.
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        uri::host_address(self.parameters.get("received")?)
    }

    /// The value of `rport` (RFC 3581), when it has one.
    #[must_use]
    pub fn response_port(&self) -> Option<u16> {
        self.parameters.get("rport")?.parse().ok()
    }

    /// The transport, when it is one that runs here.
    fn known_transport(&self) -> Option<Transport> {
        Transport::parse(&self.transport)
    }

    /// Notes where a request really came from (RFC 3261 §18.2.1, RFC 3581 §4): `received` when
    /// `sent-by` does not say it or `rport` asks for it, and the value of an empty `rport`.
    /// Whatever the sender wrote into them himself is replaced. Returns whether it changed
    /// anything.
    pub fn mark_received(&mut self, source: SocketAddr) -> bool {
        let asks_port = self.parameters.has("rport");
        let address = source.ip().to_canonical();
        if asks_port {
            self.parameters.set("rport", source.port());
        }
        if asks_port || uri::host_address(&self.host) != Some(address) {
            self.parameters.set("received", address);
            return true;
        }
        if self.parameters.has("received") {
            self.parameters.remove("received");
            return true;
        }
        false
    }

    /// Where a response goes over UDP when there is no connection to send it on (RFC 3261
    /// §18.2.2, RFC 3581 §4): `maddr`, `received` or `sent-by`, and `rport` or its port. `None`
    /// when the host is a name that must be resolved first.
    #[must_use]
    pub fn response_address(&self) -> Option<SocketAddr> {
        let default_port = self.known_transport().map_or(5060, Transport::default_port);
        let sent_port = self.port.unwrap_or(default_port);
        if let Some(address) = self.parameters.get("maddr").and_then(uri::host_address) {
            return Some(SocketAddr::new(address, sent_port));
        }
        if let Some(address) = self.received() {
            let port = self.response_port().unwrap_or(sent_port);
            return Some(SocketAddr::new(address, port));
        }
        Some(SocketAddr::new(uri::host_address(&self.host)?, sent_port))
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"SIP/2.0/");
        out.extend_from_slice(self.transport.octets());
        out.extend_from_slice(b" ");
        out.extend_from_slice(self.host.octets());
        if let Some(port) = self.port {
            out.extend_from_slice(b":");
            out.extend_from_slice(port.to_string().as_bytes());
        }
        self.parameters.write(out);
    }
}

impl fmt::Display for Via {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = BytesMut::with_capacity(96);
        self.write(&mut out);
        formatter.write_str(&String::from_utf8_lossy(&out))
    }
}
