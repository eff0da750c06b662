//! What is listened on, and connections that peers open.

use std::{collections::HashSet, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, rustls::server::Acceptor, server::TlsStream};

use super::{
    Discard, Listener, Shared, TransportError,
    connection::{self, HANDSHAKE, Opened, Side},
    udp::UdpEdge,
    verifier,
};
use crate::{
    config::Settings,
    sip::{Flow, Transport},
};

/// How long no connection is accepted after the system had no descriptor left for one.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Every distinct listener of a configuration.
pub(super) fn wanted(settings: &Settings) -> HashSet<(Transport, SocketAddr)> {
    settings
        .trunks
        .iter()
        .flat_map(|trunk| {
            [Transport::Udp, Transport::Tcp, Transport::Tls]
                .into_iter()
                .filter(|transport| trunk.speaks(*transport))
                .map(|transport| (transport, trunk.listen))
        })
        .collect()
}

/// Opens one and starts to read from it.
pub(super) fn open(
    shared: &Arc<Shared>,
    (transport, address): (Transport, SocketAddr),
) -> Result<Listener, TransportError> {
    let fail = |error| TransportError::Listen {
        transport,
        address,
        error,
    };
    let shared = Arc::clone(shared);
    if transport == Transport::Udp {
        let edge = UdpEdge::bind(address).map_err(fail)?;
        let task = tokio::spawn(edge.clone().run(address, shared));
        return Ok(Listener {
            task: task.abort_handle(),
            socket: Some(edge),
        });
    }
    let listener = bind(address).map_err(fail)?;
    let task = tokio::spawn(accept(listener, transport, address, shared));
    Ok(Listener {
        task: task.abort_handle(),
        socket: None,
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()?
    } else {
        tokio::net::TcpSocket::new_v6()?
    };
    // Connections of an earlier run that the kernel still remembers do not hold the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn accept(
    listener: TcpListener,
    transport: Transport,
    local: SocketAddr,
    shared: Arc<Shared>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                // As on our own: a message waits for no acknowledgement of the one before. Where
                // that cannot be had, the connection is gone already.
                let _ = stream.set_nodelay(true);
                admit(stream, remote, transport, local, &shared);
            }
            Err(error) => {
                tracing::warn!(%local, %transport, %error, "a connection was not accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    remote: SocketAddr,
    transport: Transport,
    local: SocketAddr,
    shared: &Arc<Shared>,
) {
    let view = shared.view();
    if !view.admits(transport, local, remote.ip()) {
        shared.discards.count(Discard::ForeignSource);
        tracing::debug!(%local, %remote, "a connection from a host that no trunk admits");
        return;
    }
    let place = if view.names(transport, local, remote.ip()) {
        let place = shared.connections.enter();
        place.ok_or(Discard::Connections)
    } else {
        shared.connections.enter_from(remote.ip())
    };
    let place = match place {
        Ok(place) => place,
        Err(reason) => {
            shared.discards.count(reason);
            tracing::warn!(
                %local, %remote, reason = reason.name(),
                "a connection beyond [limits] connections"
            );
            return;
        }
    };
    let handshake = shared.handshakes.enter(remote.ip());
    let flow = Flow {
        transport,
        ..Flow::udp(local, remote)
    };
    let mut opened = connection::register(shared, flow, None);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _place = place;
        if transport != Transport::Tls {
            connection::run(stream, opened, Side::Peer { handshake }, &shared).await;
            return;
        }
        let shaking = timeout(HANDSHAKE, shake_hands(stream, &mut opened, local, &shared));
        let shaken = tokio::select! {
            shaken = shaking => shaken,
            () = handshake.lost() => {
                shared.discards.count(Discard::Handshakes);
                tracing::debug!(%local, %remote, "a TLS handshake beyond [limits] handshakes");
                return;
            }
        };
        match shaken {
            Ok(Ok(stream)) => {
                connection::run(stream, opened, Side::Peer { handshake }, &shared).await;
            }
            Ok(Err(error)) => {
                let reason = verifier::reason(&error);
                shared.discards.count(reason);
                tracing::info!(%local, %remote, reason = reason.name(), %error, "a TLS handshake failed");
            }
            Err(_) => {
                shared.discards.count(Discard::HandshakeFailed);
                tracing::info!(%local, %remote, "a TLS handshake took too long");
            }
        }
    });
}

/// Shows the certificate of whom the peer asks for.
async fn shake_hands(
    stream: TcpStream,
    opened: &mut Opened,
    local: SocketAddr,
    shared: &Shared,
) -> io::Result<TlsStream<TcpStream>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let hello = start.client_hello();
    let name = hello.server_name();
    let ends = shared
        .view()
        .ends_for(local, name)
        .ok_or_else(|| io::Error::other("the listener has no certificates any more"))?;
    opened.identify(Arc::clone(&ends), name);
    let stream = start.into_stream(Arc::clone(&ends.server)).await?;
    let shown = stream.get_ref().1.peer_certificates();
    if let Some(certificate) = shown.and_then(<[_]>::first) {
        opened.peer_names = ends.names_in(certificate);
    }
    Ok(stream)
}
