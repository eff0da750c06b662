//! SIP over UDP: one socket for each address listened on.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{net::UdpSocket, sync::mpsc::error::TrySendError};

use super::{Discard, Discards, SendError, Shared, TransportEvent};
use crate::sip::{Target, Transport};

/// No UDP payload is longer.
const DATAGRAM: usize = 65_535;

/// What the kernel is asked to hold for a socket in each direction, in octets. Its default holds
/// fewer than a hundred messages, which a burst of calls fills in milliseconds; it gives no more
/// than `net.core.rmem_max` and `wmem_max` allow.
const BUFFER: usize = 4 << 20;

#[derive(Clone)]
pub(super) struct UdpEdge(Arc<UdpSocket>);

impl UdpEdge {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let options = SockRef::from(&socket);
        let sized = options
            .set_recv_buffer_size(BUFFER)
            .and_then(|()| options.set_send_buffer_size(BUFFER));
        if let Err(error) = sized {
            tracing::warn!(%address, %error, "the socket's buffers stay at the system's default");
        }
        Ok(Self(Arc::new(UdpSocket::from_std(socket)?)))
    }

    pub(super) fn send(
        &self,
        remote: SocketAddr,
        octets: &[u8],
        discards: &Discards,
    ) -> Result<(), SendError> {
        match self.0.try_send_to(octets, remote) {
            Ok(_) => Ok(()),
            // As if lost on the way: it is sent again by its transaction's timer.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                discards.count(Discard::SendFailed);
                Ok(())
            }
            Err(error) => {
                discards.count(Discard::SendFailed);
                Err(SendError::Refused(error.kind()))
            }
        }
    }

    /// Reads for as long as the listener is open.
    pub(super) async fn run(self, local: SocketAddr, shared: Arc<Shared>) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match self.0.recv_from(&mut buffer).await {
                Ok((length, source)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    if !receive(datagram, source, local, &shared) {
                        return;
                    }
                }
                // What a peer's ICMP left behind; the socket itself is well.
                Err(error) => {
                    tracing::debug!(%local, %error, "a datagram was not received");
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// False when nobody is left to give it to.
fn receive(datagram: &[u8], source: SocketAddr, local: SocketAddr, shared: &Shared) -> bool {
    // Keep-alives (RFC 5626, section 4.4.1, and what is common besides).
    if datagram.len() <= 4 && datagram.iter().all(|octet| b"\r\n\0".contains(octet)) {
        return true;
    }
    let view = shared.view();
    // Who answers is known by the branch of what we sent, wherever the answer comes from.
    if !datagram.starts_with(b"SIP/2.0 ") && !view.admits(Transport::Udp, local, source.ip()) {
        shared.discards.count(Discard::ForeignSource);
        tracing::debug!(%local, %source, "a datagram from a host that no trunk admits");
        return true;
    }
    if datagram.len() > view.limits().message_octets {
        shared.discards.count(Discard::Oversized);
        return true;
    }
    let event = TransportEvent::Message {
        flow: Target::udp(local, source),
        octets: Bytes::copy_from_slice(datagram),
    };
    match shared.events.try_send(event) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            shared.discards.count(Discard::Overload);
            true
        }
        Err(TrySendError::Closed(_)) => false,
    }
}
