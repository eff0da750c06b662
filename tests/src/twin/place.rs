//! The endpoints at their places: Teams' three proxies over TLS, and plain SIP over UDP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{ClientConfig, ServerConfig};

use super::{
    agent::{Agent, Arrive, Manner, lock, token},
    link::{Connection, Link, follow},
    message::Message,
    outgoing::{Invite, Outgoing},
    rules::ALLOW,
};
use crate::lab::{Door, LabError, Result};

/// How often a waiting thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// One of Teams' proxies.
struct Proxy {
    address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    open: Arc<AtomicBool>,
}

/// Microsoft Teams' side of Direct Routing.
pub struct Twin {
    pub agent: Agent,
    proxies: Vec<Proxy>,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
    client: Mutex<Arc<ClientConfig>>,
    stop: Arc<AtomicBool>,
}

impl Twin {
    /// Listens at the addresses, in the order of the proxies' names.
    ///
    /// # Errors
    /// When an address is taken.
    pub fn start(
        door: &Door,
        addresses: &[SocketAddr],
        server: &Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
    ) -> Result<Self> {
        let first = addresses
            .first()
            .ok_or_else(|| LabError::new("a twin wants an address"))?;
        let mut twin = Self {
            agent: Agent::new("Teams", Manner::Teams, door.clone(), first.ip()),
            proxies: Vec::new(),
            connections: Arc::default(),
            client: Mutex::new(Arc::clone(client)),
            stop: Arc::default(),
        };
        for &address in addresses {
            twin.listen(door, address, server)?;
        }
        Ok(twin)
    }

    fn listen(
        &mut self,
        door: &Door,
        address: SocketAddr,
        server: &Arc<ServerConfig>,
    ) -> Result<()> {
        let listener = door
            .enter(|| -> io::Result<TcpListener> {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })?
            .map_err(|error| LabError::new(format!("{address}: {error}")))?;
        let proxy = Proxy {
            address: listener.local_addr().map_err(LabError::new)?,
            config: Arc::new(Mutex::new(Arc::clone(server))),
            open: Arc::new(AtomicBool::new(true)),
        };
        let (config, open) = (Arc::clone(&proxy.config), Arc::clone(&proxy.open));
        let (agent, stop) = (self.agent.clone(), Arc::clone(&self.stop));
        let connections = Arc::clone(&self.connections);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                if !open.load(Ordering::Relaxed) || stream.set_nonblocking(false).is_err() {
                    continue;
                }
                let config = Arc::clone(&lock(&config));
                let (agent, connections) = (agent.clone(), Arc::clone(&connections));
                thread::spawn(move || {
                    // A handshake that fails is the SBC's to tell of.
                    if let Ok(connection) = Connection::accept(stream, &config) {
                        lock(&connections).push(Arc::clone(&connection));
                        connection.follow(&agent);
                    }
                });
            }
        });
        self.proxies.push(proxy);
        Ok(())
    }

    /// Where a proxy listens.
    ///
    /// # Panics
    /// When there is no such proxy.
    #[must_use]
    pub fn address(&self, proxy: usize) -> SocketAddr {
        self.proxies[proxy].address
    }

    /// Which proxy a link leads to.
    #[must_use]
    pub fn proxy_of(&self, link: &Link) -> Option<usize> {
        let local = link.local()?;
        self.proxies
            .iter()
            .position(|proxy| proxy.address.ip() == local.ip())
    }

    /// Takes connections at a proxy, or breaks each off before TLS begins. Those that are up are
    /// broken off too.
    pub fn set_open(&self, proxy: usize, open: bool) {
        self.proxies[proxy].open.store(open, Ordering::Relaxed);
        if !open {
            let address = self.proxies[proxy].address.ip();
            for connection in self.connections() {
                if connection.local.ip() == address {
                    connection.close();
                }
            }
        }
    }

    /// Shows another certificate at a proxy, or takes another version, from the next connection on.
    pub fn set_server(&self, proxy: usize, config: &Arc<ServerConfig>) {
        *lock(&self.proxies[proxy].config) = Arc::clone(config);
    }

    /// Every connection that was made, those of the past included.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.connections).clone()
    }

    /// Opens a connection to the SBC from a proxy's address and listens to it.
    ///
    /// # Errors
    /// When there is no connection or the SBC's certificate does not do.
    pub fn connect(&self, proxy: usize, sbc: SocketAddr, name: &str) -> Result<Link> {
        let config = Arc::clone(&lock(&self.client));
        self.connect_with(Some(self.proxies[proxy].address.ip()), sbc, name, &config)
    }

    /// As [`Twin::connect`], from any address and with any certificate.
    ///
    /// # Errors
    /// As there.
    pub fn connect_with(
        &self,
        from: Option<IpAddr>,
        sbc: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> Result<Link> {
        let door = &self.agent.shared.door;
        let connection = Connection::open(door, from, sbc, name, config)?;
        lock(&self.connections).push(Arc::clone(&connection));
        let (agent, reader) = (self.agent.clone(), Arc::clone(&connection));
        thread::spawn(move || reader.follow(&agent));
        Ok(Link::Tls(connection))
    }

    /// An INVITE as Teams sends it: to a number at the SBC's name, from a user's number.
    #[must_use]
    pub fn invite(number: &str, caller: &str, sbc: &str) -> Invite {
        let (first, second) = (token(), token());
        Invite {
            uri: format!("sip:{number}@{sbc}:5061;user=phone;transport=tls"),
            from: format!(
                "\"Adele Vance\" <sip:{caller}@sip.pstnhub.microsoft.com:5061;user=phone>"
            ),
            to: format!("<sip:{number}@{sbc}:5061;user=phone>"),
            contact: format!(
                "sip:api-du-a-euwe.pstnhub.microsoft.com:443;x-i={first};x-c={second}/d/8"
            ),
            headers: vec![
                (
                    "Record-Route".to_owned(),
                    "<sip:sip-du-a-eu.pstnhub.microsoft.com:5061;transport=tls;lr>".to_owned(),
                ),
                (
                    "P-Asserted-Identity".to_owned(),
                    format!("<tel:{caller}>,<sip:adele@contoso.example>"),
                ),
                ("Allow".to_owned(), ALLOW.to_owned()),
                (
                    "User-Agent".to_owned(),
                    "Microsoft.PSTNHub.SIPProxy v.2024.1.1.1 i.EUWE.0".to_owned(),
                ),
                ("Session-Expires".to_owned(), "3600".to_owned()),
                ("Min-SE".to_owned(), "300".to_owned()),
                ("Supported".to_owned(), "timer".to_owned()),
            ],
            offerless: false,
            adjust: |_| {},
            part: None,
        }
    }

    /// Calls over a link.
    ///
    /// # Errors
    /// When the INVITE cannot be sent.
    pub fn call(&self, link: &Link, invite: &Invite) -> Result<Outgoing> {
        self.agent.invite(link, invite)
    }

    /// An OPTIONS of Teams' own, to be sent over a link.
    #[must_use]
    pub fn options(&self, link: &Link, sbc: &str) -> Message {
        let local = link
            .local()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |local| local.ip());
        Message::request("OPTIONS", &format!("sip:{sbc}:5061;transport=tls"))
            .with("Via", &self.agent.via(link))
            .with("Max-Forwards", "70")
            .with(
                "From",
                &format!(
                    "<sip:sip-du-a-eu.pstnhub.microsoft.com:5061>;tag={}",
                    token()
                ),
            )
            .with("To", &format!("<sip:{sbc}:5061>"))
            .with("Call-ID", &token())
            .with("CSeq", "1 OPTIONS")
            .with(
                "Contact",
                &format!("<sip:sip-du-a-eu.pstnhub.microsoft.com:5061;transport=tls;x-a={local}>"),
            )
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for connection in self.connections() {
            connection.close();
        }
    }
}

/// A carrier or a contact centre with SIP over UDP, and over TCP where it listens for that.
pub struct Plain {
    pub agent: Agent,
    pub address: SocketAddr,
    socket: Arc<UdpSocket>,
    stop: Arc<AtomicBool>,
}

impl Plain {
    /// Listens at an address.
    ///
    /// # Errors
    /// When it is taken.
    pub fn start(name: &'static str, door: &Door, address: SocketAddr) -> Result<Self> {
        let socket = door
            .enter(|| UdpSocket::bind(address))?
            .map_err(|error| LabError::new(format!("{address}: {error}")))?;
        socket.set_read_timeout(Some(LOOK)).map_err(LabError::new)?;
        let plain = Self {
            agent: Agent::new(name, Manner::Plain, door.clone(), address.ip()),
            address: socket.local_addr().map_err(LabError::new)?,
            socket: Arc::new(socket),
            stop: Arc::default(),
        };
        let (agent, stop) = (plain.agent.clone(), Arc::clone(&plain.stop));
        let socket = Arc::clone(&plain.socket);
        thread::spawn(move || {
            let mut octets = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, remote)) = socket.recv_from(&mut octets) else {
                    continue;
                };
                if let Some(message) = Message::parse(&octets[..length]) {
                    let socket = Arc::clone(&socket);
                    agent.arrive(&Link::Udp { socket, remote }, message);
                }
            }
        });
        Ok(plain)
    }

    /// Takes TCP connections, too, at the same address.
    ///
    /// # Errors
    /// When it is taken.
    pub fn listen(&self, door: &Door) -> Result<()> {
        let listener = door
            .enter(|| TcpListener::bind(self.address))?
            .map_err(|error| LabError::new(format!("{}: {error}", self.address)))?;
        listener.set_nonblocking(true).map_err(LabError::new)?;
        let (agent, stop) = (self.agent.clone(), Arc::clone(&self.stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) if stream.set_nonblocking(false).is_ok() => {
                        let agent = agent.clone();
                        thread::spawn(move || follow(stream, &agent));
                    }
                    _ => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(())
    }

    /// The way to an address.
    #[must_use]
    pub fn link(&self, remote: SocketAddr) -> Link {
        Link::Udp {
            socket: Arc::clone(&self.socket),
            remote,
        }
    }

    /// An INVITE to a number at the SBC.
    #[must_use]
    pub fn invite(&self, number: &str, caller: &str, sbc: SocketAddr) -> Invite {
        let own = self.address;
        Invite {
            uri: format!("sip:{number}@{sbc};user=phone"),
            from: format!("<sip:{caller}@{own};user=phone>"),
            to: format!("<sip:{number}@{sbc};user=phone>"),
            contact: format!("sip:{caller}@{own}"),
            headers: vec![("Allow".to_owned(), super::agent::PLAIN_ALLOW.to_owned())],
            offerless: false,
            adjust: |_| {},
            part: None,
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
