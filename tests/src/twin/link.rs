//! What SIP goes over: a TLS or TCP connection, or a UDP socket.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{CipherSuite, ClientConfig, ClientConnection, ServerConfig};
use rustls_pki_types::ServerName;

use super::{
    agent::Arrive,
    message::{Framer, Message},
    names::names,
};
use crate::lab::{Door, LabError, Result};

/// How long a connection and its handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// Where a message came from and an answer goes to.
#[derive(Clone, Debug)]
pub enum Link {
    Udp {
        socket: Arc<UdpSocket>,
        remote: SocketAddr,
    },
    Tcp(Arc<TcpStream>),
    Tls(Arc<Connection>),
}

impl Link {
    /// Sends a message.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn send(&self, message: &Message) -> Result<()> {
        let octets = message.octets();
        match self {
            Self::Udp { socket, remote } => socket.send_to(&octets, remote).map(|_| ()),
            Self::Tcp(stream) => (&**stream).write_all(&octets),
            Self::Tls(connection) => connection.write(&octets),
        }
        .map_err(|error| LabError::new(format!("sending {:?}: {error}", message.start)))
    }

    /// Our own address on it.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp { socket, .. } => socket.local_addr().ok(),
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Tls(connection) => Some(connection.local),
        }
    }

    /// The transport as Via writes it.
    #[must_use]
    pub const fn transport(&self) -> &'static str {
        match self {
            Self::Udp { .. } => "UDP",
            Self::Tcp(_) => "TCP",
            Self::Tls(_) => "TLS",
        }
    }

    #[must_use]
    pub fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Udp { .. } | Self::Tcp(_) => None,
            Self::Tls(connection) => Some(connection),
        }
    }
}

/// Reads from a TCP connection until it ends, passing on what comes.
pub(super) fn follow(stream: TcpStream, arrive: &impl Arrive) {
    let stream = Arc::new(stream);
    let link = Link::Tcp(Arc::clone(&stream));
    let mut framer = Framer::default();
    let mut octets = [0; 16_384];
    while let Ok(length @ 1..) = (&*stream).read(&mut octets) {
        framer.push(&octets[..length]);
        while let Ok(Some(message)) = framer.next() {
            arrive.arrive(&link, message);
        }
    }
}

/// A TLS connection whose handshake is done.
pub struct Connection {
    /// Unique in this process.
    pub number: u64,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// The names in the other side's certificate; none when it showed none.
    pub names: Vec<String>,
    /// How many certificates the other side has shown.
    pub certificates: usize,
    /// The other side's certificate.
    pub certificate: Vec<u8>,
    /// The name that the other side asked for.
    pub asked_for: Option<String>,
    pub suite: Option<CipherSuite>,
    stream: TcpStream,
    tls: Mutex<rustls::Connection>,
    closed: AtomicBool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "connection {} {} – {}",
            self.number, self.local, self.remote
        )
    }
}

impl Connection {
    /// Opens one from an address of ours; `name` is asked for and must be in the certificate.
    ///
    /// # Errors
    /// When there is no connection, or either side does not accept the other's certificate.
    pub fn open(
        door: &Door,
        from: Option<std::net::IpAddr>,
        to: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> Result<Arc<Self>> {
        let failed = |error: &dyn fmt::Display| LabError::new(format!("{to} as {name}: {error}"));
        let connect = || -> io::Result<TcpStream> {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(to),
                socket2::Type::STREAM,
                None,
            )?;
            if let Some(from) = from {
                socket.bind(&SocketAddr::new(from, 0).into())?;
            }
            socket.connect_timeout(&to.into(), HANDSHAKE)?;
            Ok(socket.into())
        };
        let stream = door.enter(connect)?.map_err(|error| failed(&error))?;
        let server_name = ServerName::try_from(name.to_owned()).map_err(|error| failed(&error))?;
        let tls = ClientConnection::new(Arc::clone(config), server_name)
            .map_err(|error| failed(&error))?;
        Self::shake_hands(stream, tls.into()).map_err(|error| failed(&error))
    }

    /// Takes one that the other side has opened.
    ///
    /// # Errors
    /// When the handshake fails; the text says why.
    pub fn accept(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Arc<Self>> {
        let tls = rustls::ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Self::shake_hands(stream, tls.into())
    }

    fn shake_hands(mut stream: TcpStream, mut tls: rustls::Connection) -> io::Result<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        stream.set_read_timeout(Some(HANDSHAKE))?;
        stream.set_nodelay(true)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut stream)?;
        }
        stream.set_read_timeout(None)?;
        let asked_for = match &tls {
            rustls::Connection::Server(server) => server.server_name().map(str::to_owned),
            rustls::Connection::Client(_) => None,
        };
        let certificates = tls.peer_certificates().unwrap_or_default();
        let certificate = certificates
            .first()
            .map(|certificate| certificate.to_vec())
            .unwrap_or_default();
        Ok(Arc::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            local: stream.local_addr()?,
            remote: stream.peer_addr()?,
            names: names(&certificate),
            certificates: certificates.len(),
            certificate,
            asked_for,
            suite: tls.negotiated_cipher_suite().map(|suite| suite.suite()),
            stream,
            tls: Mutex::new(tls),
            closed: AtomicBool::new(false),
        }))
    }

    fn tls(&self) -> MutexGuard<'_, rustls::Connection> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, octets: &[u8]) -> io::Result<()> {
        if self.is_closed() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut tls = self.tls();
        tls.writer().write_all(octets)?;
        while tls.wants_write() {
            tls.write_tls(&mut &self.stream)?;
        }
        Ok(())
    }

    /// Whether one side has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Breaks it off.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Reads until the other side closes it, passing on what comes.
    pub(super) fn follow(self: &Arc<Self>, arrive: &impl Arrive) {
        let mut framer = Framer::default();
        let mut octets = [0; 16_384];
        let link = Link::Tls(Arc::clone(self));
        // What came together with the end of the handshake waits inside already.
        let mut length = 0;
        while let Ok(plain) = self.decrypt(&octets[..length]) {
            framer.push(&plain);
            loop {
                match framer.next() {
                    Ok(Some(message)) => arrive.arrive(&link, message),
                    Ok(None) => break,
                    Err(()) => {
                        self.close();
                        return;
                    }
                }
            }
            length = match (&self.stream).read(&mut octets) {
                Ok(length) if length > 0 => length,
                _ => break,
            };
        }
        self.close();
    }

    fn decrypt(&self, mut octets: &[u8]) -> io::Result<Vec<u8>> {
        let mut tls = self.tls();
        let mut plain = Vec::new();
        loop {
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let mut fresh = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut fresh)?;
            plain.extend(fresh);
            if octets.is_empty() {
                break;
            }
            tls.read_tls(&mut octets)?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut &self.stream)?;
        }
        Ok(plain)
    }
}
