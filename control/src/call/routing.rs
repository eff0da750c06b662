//! Where a request goes.

use std::{net::SocketAddr, sync::Arc};

use super::{headers::rehosted, trunk::Trunk};
use crate::{
    config::Destination,
    sip::{PeerWay, SipUri, Target, Uri},
};

/// The way of an INVITE to one of the trunk's addresses.
pub(super) fn to_destination(trunk: &Trunk, destination: &Destination) -> Target {
    Target {
        transport: trunk.transport,
        local: trunk.listen,
        remote: destination.address,
        connection: None,
        server_name: destination.server_name.as_deref().map(Arc::from),
        own_name: trunk.own_name.clone(),
    }
}

/// The Request-URI's host and port, and its `transport`, for a call to an address of the trunk.
/// A trunk that is known by a name is called by it, without a port.
pub(super) fn called_host(trunk: &Trunk, destination: &Destination) -> SipUri {
    match &destination.server_name {
        Some(name) if name.parse::<std::net::IpAddr>().is_err() => SipUri::new(None, name, None),
        _ => {
            let address = destination.address;
            let default = address.port() == trunk.transport.default_port();
            SipUri::new(
                None,
                &address.ip().to_string(),
                (!default).then_some(address.port()),
            )
        }
    }
}

/// The Request-URI of a call to an address of the trunk, where whoever asked for it wrote `uri`.
pub(super) fn called_uri(trunk: &Trunk, destination: &Destination, uri: &Uri) -> SipUri {
    let host = called_host(trunk, destination);
    let mut called = rehosted(uri, &host.host, host.port);
    let number = called.user.as_ref().filter(|user| user.starts_with('+'));
    if destination.server_name.is_some() && number.is_some() {
        called.parameters.set("user", "phone");
    }
    called
}

/// The way of a request inside a dialog to its first hop (RFC 3261 §12.2.1.1 and §18.1.1).
///
/// An address in the URI is taken as it is. A name cannot be looked up here: it is one of the
/// trunk's own, or the way that the peer's last message came is taken. Over TCP and TLS that
/// message's connection is used as long as it is open.
pub(super) fn inside_dialog(trunk: &Trunk, hop: &Uri, flow: &PeerWay) -> Target {
    let remote = hop
        .as_sip()
        .and_then(|uri| address_of(trunk, uri, flow.remote))
        .filter(|remote| reaches(trunk, *remote))
        .unwrap_or(flow.remote);
    let server_name = (trunk.transport == crate::sip::Transport::Tls).then(|| {
        let known = trunk
            .destinations
            .iter()
            .find(|destination| destination.address.ip() == remote.ip())
            .or_else(|| trunk.destinations.first())
            .and_then(|destination| destination.server_name.as_deref());
        known.map_or_else(|| remote.ip().to_string().into(), Arc::from)
    });
    Target {
        transport: trunk.transport,
        local: trunk.listen,
        remote,
        connection: flow
            .connection
            .filter(|_| flow.transport == trunk.transport),
        server_name,
        own_name: trunk.own_name.clone(),
    }
}

/// The address that a URI names. Of several addresses of one name, each of which may serve, it is
/// the one that the call is with.
fn address_of(trunk: &Trunk, uri: &SipUri, peer: SocketAddr) -> Option<SocketAddr> {
    if let Some(ip) = uri.address() {
        let port = uri.port.unwrap_or(trunk.transport.default_port());
        return Some(SocketAddr::new(ip, port));
    }
    let named = |destination: &&Destination| {
        let name = destination.server_name.as_ref();
        name.is_some_and(|name| name.eq_ignore_ascii_case(&uri.host))
    };
    let mut addresses = trunk.destinations.iter().filter(named).map(|it| it.address);
    let first = addresses.clone().next();
    addresses.find(|it| it.ip() == peer.ip()).or(first)
}

/// Whether the trunk's listener can send there at all.
fn reaches(trunk: &Trunk, remote: SocketAddr) -> bool {
    remote.port() != 0
        && remote.is_ipv4() == trunk.listen.is_ipv4()
        && !remote.ip().is_unspecified()
        && !remote.ip().is_multicast()
}
