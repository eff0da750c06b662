//! TLS, and noise on every transport.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore},
};

use super::{
    OPTIONS, closed, connect_from, event, free_port, message, settings, start, trunk, until,
};
use crate::{
    config::tls_provider,
    sip::{Target, Transport},
    transport::{Discard, SendError, TransportEvent},
};

struct Certificates {
    folder: PathBuf,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Certificates {
    /// An authority, and a certificate for each name.
    fn new(test: &str, names: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("trunkline-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        fs::write(
            folder.join("roots.pem"),
            authority.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        let issuer = rcgen::Issuer::new(authority, key);
        let certificates = Self { folder, issuer };
        for name in names {
            certificates.issue(name, name, &[]);
        }
        certificates
    }

    /// A certificate for a name, in `FILE.pem` and `FILE.key`.
    fn issue(&self, file: &str, name: &str, usages: &[rcgen::ExtendedKeyUsagePurpose]) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.extended_key_usages = usages.to_vec();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.join(format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn read(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.folder.join(format!("{name}.pem"))).unwrap()
    }

    /// A client that trusts the authority and shows a certificate, if any.
    fn client(&self, shown: Option<&str>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.read("roots")).unwrap();
        let builder = ClientConfig::builder_with_provider(tls_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = self.folder.join(format!("{name}.key"));
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder
                    .with_client_auth_cert(vec![self.read(name)], key)
                    .unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    fn tls(&self, name: &str, more: &str) -> String {
        let folder = self.folder.display();
        format!(
            "[trunk.tls]\ncertificate = \"{folder}/{name}.pem\"\nkey = \"{folder}/{name}.key\"\n\
             roots = \"{folder}/roots.pem\"\n{more}\n"
        )
    }
}

fn tls_target(local: SocketAddr, remote: SocketAddr, name: &str) -> Target {
    Target {
        transport: Transport::Tls,
        local,
        remote,
        connection: None,
        server_name: Some(name.into()),
        own_name: None,
    }
}

#[tokio::test]
async fn tls_checks_both_certificates() {
    let certificates = Certificates::new("mutual", &["sbc.example.com", "peer.example.com"]);
    let (ours, theirs) = (free_port("127.0.0.1"), free_port("127.0.0.2"));
    let (transports, mut events) = start(&settings(
        "",
        &trunk(
            "a",
            "tls",
            ours,
            &theirs.to_string(),
            &certificates.tls("sbc.example.com", "server_name = \"peer.example.com\""),
        ),
    ));
    let peer_settings = settings(
        "",
        &trunk(
            "b",
            "tls",
            theirs,
            &ours.to_string(),
            &certificates.tls(
                "peer.example.com",
                "server_name = \"sbc.example.com\"\nrequire_client_certificate = true",
            ),
        )
        .replace("127.0.0.2/32", "127.0.0.1/32"),
    );
    let (peer, mut peer_events) = start(&peer_settings);

    let target = tls_target(ours, theirs, "peer.example.com");
    transports
        .send(&target, Bytes::from_static(OPTIONS))
        .unwrap();
    let (flow, octets) = message(&mut peer_events).await;
    assert_eq!(octets, OPTIONS);
    peer.send(&flow, Bytes::from_static(OPTIONS)).unwrap();
    let (back, _) = message(&mut events).await;
    assert_eq!((back.local, back.remote), (ours, theirs));
    assert_eq!(back.server_name.as_deref(), Some("peer.example.com"));

    let unknown = tls_target(ours, theirs, "other.example.com");
    assert_eq!(
        transports.send(&unknown, Bytes::from_static(OPTIONS)),
        Err(SendError::NoCertificates)
    );

    // A certificate of the right authority, without the name that was asked for.
    let (other, mut other_events) = start(&settings(
        "",
        &trunk(
            "a",
            "tls",
            free_port("127.0.0.1"),
            &theirs.to_string(),
            &certificates.tls("sbc.example.com", "server_name = \"other.example.com\""),
        ),
    ));
    let target = tls_target(SocketAddr::new(ours.ip(), 0), theirs, "other.example.com");
    other.send(&target, Bytes::from_static(OPTIONS)).unwrap();
    match event(&mut other_events).await {
        TransportEvent::Failed(failed) => assert_eq!(failed, target),
        event => panic!("{event:?}"),
    }
    assert_eq!(other.discards().get(Discard::CertificateName), 1);
    until(|| peer.discards().get(Discard::HandshakeFailed) > 0).await;
}

/// Opens a connection and sends a request over it.
async fn open(
    client: &TlsConnector,
    to: SocketAddr,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = connect_from("127.0.0.2", to).await;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = client.connect(name, stream).await?;
    stream.write_all(OPTIONS).await?;
    Ok(stream)
}

#[tokio::test]
async fn who_connects_must_show_a_name_by_a_trusted_root_and_need_not_be_a_client() {
    let certificates = Certificates::new("peers", &["sbc.example.com", "other.example.com"]);
    let strangers = Certificates::new("strangers", &["peer.example.com"]);
    let (server, client) = (
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    );
    certificates.issue("server", "peer.example.com", &[server]);
    certificates.issue("client", "peer.example.com", &[client]);
    certificates.issue("wildcard", "*.example.com", &[]);
    certificates.issue(
        "code",
        "peer.example.com",
        &[rcgen::ExtendedKeyUsagePurpose::CodeSigning],
    );
    let listen = free_port("127.0.0.1");
    let (transports, mut events) = start(&settings(
        "",
        &trunk(
            "a",
            "tls",
            listen,
            "127.0.0.2",
            &certificates.tls(
                "sbc.example.com",
                "require_client_certificate = true
\
                 peer_names = [\"unused.example.org\", \"peer.example.com\"]",
            ),
        ),
    ));
    for shown in ["server", "client", "wildcard"] {
        let connector = certificates.client(Some(shown));
        let _stream = open(&connector, listen, "sbc.example.com").await.unwrap();
        assert_eq!(message(&mut events).await.1, OPTIONS, "{shown}");
    }
    for ending in ["pem", "key"] {
        fs::copy(
            strangers.folder.join(format!("peer.example.com.{ending}")),
            certificates.folder.join(format!("stranger.{ending}")),
        )
        .unwrap();
    }
    let discards = transports.discards();
    for (shown, reason) in [
        (None, Discard::CertificateMissing),
        (Some("other.example.com"), Discard::CertificateName),
        (Some("code"), Discard::CertificateUntrusted),
        (Some("stranger"), Discard::CertificateUntrusted),
    ] {
        let before = discards.get(reason);
        // With TLS 1.3 the refusal comes after the client's own part is done.
        if let Ok(mut stream) = open(&certificates.client(shown), listen, "sbc.example.com").await {
            let mut octets = [0; 1];
            assert!(stream.read(&mut octets).await.is_err(), "{shown:?}");
        }
        until(|| discards.get(reason) != before).await;
    }
    assert!(events.try_recv().is_err(), "nothing was served");
}

#[tokio::test]
async fn each_name_on_a_listener_has_its_certificate_and_shows_it() {
    let names = ["one.example.com", "two.example.com"];
    let certificates = Certificates::new("tenants", &names);
    certificates.issue("peer", "peer.example.com", &[]);
    let (listen, theirs) = (free_port("127.0.0.1"), free_port("127.0.0.2"));
    let tenants: String = names
        .map(|name| {
            let tls = certificates.tls(name, "server_name = \"peer.example.com\"");
            trunk(name, "tls", listen, &theirs.to_string(), &tls)
                .replace("[trunk.tls]", &format!("domain = \"{name}\"\n[trunk.tls]"))
        })
        .concat();
    let (transports, mut events) = start(&settings("", &tenants));
    let connector = certificates.client(None);
    for (asked, shown) in [
        ("two.example.com", "two.example.com"),
        ("one.example.com", "one.example.com"),
        ("TWO.example.com", "two.example.com"),
    ] {
        let stream = open(&connector, listen, asked).await.unwrap();
        let (flow, _) = message(&mut events).await;
        assert_eq!(
            flow.own_name
                .as_deref()
                .map(str::to_ascii_lowercase)
                .as_deref(),
            Some(shown)
        );
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(chain[0], certificates.read(shown), "{asked}");
    }

    let peer = certificates.tls("peer", "");
    let peer =
        trunk("b", "tls", theirs, "127.0.0.1", &peer).replace("127.0.0.2/32", "127.0.0.1/32");
    let (_peer, mut peer_events) = start(&settings("", &peer));
    let mut target = tls_target(listen, theirs, "peer.example.com");
    let mut connections = Vec::new();
    for name in ["one.example.com", "two.example.com", "one.example.com"] {
        target.own_name = Some(name.into());
        transports
            .send(&target, Bytes::from_static(OPTIONS))
            .unwrap();
        connections.push(message(&mut peer_events).await.0.connection);
    }
    assert_eq!(connections[0], connections[2], "one for each certificate");
    assert_ne!(connections[0], connections[1]);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_on_new_connections() {
    let certificates = Certificates::new("renewed", &["sbc.example.com", "peer.example.com"]);
    let (ours, theirs) = (free_port("127.0.0.1"), free_port("127.0.0.2"));
    let name = "server_name = \"peer.example.com\"";
    let us = settings(
        "",
        &trunk(
            "a",
            "tls",
            ours,
            &theirs.to_string(),
            &certificates.tls("sbc.example.com", name),
        ),
    );
    let (transports, mut events) = start(&us);
    let (_peer, mut peer_events) = start(&settings(
        "",
        &trunk(
            "b",
            "tls",
            theirs,
            &ours.to_string(),
            &certificates.tls("peer.example.com", "require_client_certificate = true"),
        )
        .replace("127.0.0.2/32", "127.0.0.1/32"),
    ));
    let target = tls_target(ours, theirs, "peer.example.com");
    let mut connection = async || {
        transports
            .send(&target, Bytes::from_static(OPTIONS))
            .unwrap();
        message(&mut peer_events).await.0.connection
    };
    let first = connection().await;
    transports.reload(&us).unwrap();
    assert_eq!(connection().await, first, "nothing has changed");
    // Any other certificate of the same authority serves as the renewed one.
    for ending in ["pem", "key"] {
        fs::copy(
            certificates
                .folder
                .join(format!("peer.example.com.{ending}")),
            certificates
                .folder
                .join(format!("sbc.example.com.{ending}")),
        )
        .unwrap();
    }
    transports.reload(&us).unwrap();
    let second = connection().await;
    assert_ne!(second, first);
    assert_eq!(transports.connections(), 2, "the old one is busy");
    assert_eq!(transports.retire(|_| true), 1);
    assert_eq!(transports.retire(|_| false), 0);
    until(|| transports.connections() != 2).await;
    assert_eq!(connection().await, second, "the new one stays");
    assert!(events.try_recv().is_err(), "nobody waits for the old one");
}

/// OPTIONS over TLS from a peer that listens on a port.
fn options(port: u16, via: &str) -> Vec<u8> {
    String::from_utf8_lossy(OPTIONS)
        .replace("/TCP 127.0.0.2", &format!("/TLS 127.0.0.2:{port}{via}"))
        .into_bytes()
}

#[tokio::test]
async fn requests_go_over_a_peers_connection_that_is_an_alias_and_verified() {
    let certificates = Certificates::new("alias", &["sbc.example.com", "peer.example.com"]);
    let theirs = free_port("127.0.0.2");
    for (demands, via, goes_over) in [
        (true, ";alias", true),
        (true, "", false),
        (false, ";alias", false),
    ] {
        let listen = free_port("127.0.0.1");
        let tls = certificates.tls(
            "sbc.example.com",
            &format!("server_name = \"peer.example.com\"\nrequire_client_certificate = {demands}"),
        );
        let us = settings("", &trunk("a", "tls", listen, &theirs.to_string(), &tls));
        let (transports, mut events) = start(&us);
        let connector = certificates.client(Some("peer.example.com"));
        let stream = connect_from("127.0.0.2", listen).await;
        let name = ServerName::try_from("sbc.example.com").unwrap();
        let mut peer = connector.connect(name, stream).await.unwrap();
        peer.write_all(&options(theirs.port(), via)).await.unwrap();
        message(&mut events).await;
        // Nobody listens at the peer's own address.
        let target = tls_target(listen, theirs, "peer.example.com");
        transports
            .send(&target, Bytes::from_static(b"over the alias"))
            .unwrap();
        if goes_over {
            let mut octets = [0; 14];
            peer.read_exact(&mut octets).await.unwrap();
            assert_eq!(&octets, b"over the alias");
            peer.shutdown().await.unwrap();
            match event(&mut events).await {
                TransportEvent::Closed(flow) => assert_eq!(flow.remote, theirs),
                event => panic!("{event:?}"),
            }
        }
        let target = tls_target(listen, theirs, "peer.example.com");
        if goes_over {
            transports.send(&target, Bytes::from_static(b"x")).unwrap();
        }
        match event(&mut events).await {
            TransportEvent::Failed(failed) => assert_eq!(failed, target),
            event => panic!("{event:?}"),
        }
    }
}

#[tokio::test]
async fn a_response_whose_connection_is_gone_goes_over_a_new_one() {
    let certificates = Certificates::new("again", &["sbc.example.com", "peer.example.com"]);
    let theirs = free_port("127.0.0.2");
    let ours = certificates.tls("sbc.example.com", "server_name = \"peer.example.com\"");
    let peer = certificates.tls("peer.example.com", "");
    let peer =
        trunk("b", "tls", theirs, "127.0.0.1", &peer).replace("127.0.0.2/32", "127.0.0.1/32");
    let (_peer, mut peer_events) = start(&settings("", &peer));
    let connector = certificates.client(None);
    for arrives in [false, true] {
        let listen = free_port("127.0.0.1");
        let mut trunk = trunk("a", "tls", listen, &theirs.to_string(), &ours);
        if !arrives {
            trunk = trunk.replace(&format!("[\"{theirs}\"]"), "[]");
        }
        let known = settings("", &trunk).with_lookups(|_| Vec::new());
        let (transports, mut events) = start(&Arc::new(known));
        let mut stream = open(&connector, listen, "sbc.example.com").await.unwrap();
        let (mut flow, _) = message(&mut events).await;
        stream.shutdown().await.unwrap();
        until(|| transports.connections() == 0).await;
        // Where the topmost Via says that the peer listens.
        flow.remote.set_port(theirs.port());
        let sent = transports.send(&flow, Bytes::from_static(OPTIONS));
        if !arrives {
            assert_eq!(sent, Err(SendError::NoCertificates));
            continue;
        }
        sent.unwrap();
        let (back, _) = message(&mut peer_events).await;
        transports.send(&flow, Bytes::from_static(OPTIONS)).unwrap();
        let (again, _) = message(&mut peer_events).await;
        assert_eq!(again.connection, back.connection, "one is enough");
    }
}

/// A peer that reads nothing and then breaks off, while responses wait for it.
#[tokio::test]
async fn what_waits_when_a_peer_breaks_off_goes_over_a_new_connection() {
    let server = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let (listen, theirs) = (free_port("127.0.0.1"), server.local_addr().unwrap());
    let settings = settings(
        "write_octets = 100000000",
        &trunk("a", "tcp", listen, &theirs.to_string(), ""),
    );
    let (transports, mut events) = start(&settings);
    let mut peer = connect_from("127.0.0.2", listen).await;
    peer.write_all(OPTIONS).await.unwrap();
    let (mut flow, _) = message(&mut events).await;
    flow.remote.set_port(theirs.port());
    // More than the sockets between the two take.
    let filler = Bytes::from(vec![b'x'; 20_000_000]);
    transports.send(&flow, filler).unwrap();
    transports.send(&flow, Bytes::from_static(b"last")).unwrap();
    drop(peer);
    let (mut again, _) = server.accept().await.unwrap();
    let mut came = vec![0; 20_000_004];
    again.read_exact(&mut came).await.unwrap();
    assert!(came.ends_with(b"xlast"));
    assert!(events.try_recv().is_err(), "nothing has failed");
}

#[tokio::test]
async fn a_flood_of_half_open_handshakes_keeps_no_peer_out() {
    let certificates = Certificates::new("flood", &["sbc.example.com"]);
    let listen = free_port("127.0.0.1");
    let tls = certificates.tls("sbc.example.com", "");
    let ranges =
        trunk("a", "tls", listen, "127.0.0.2", &tls).replace("127.0.0.2/32", "127.0.0.0/8");
    let (transports, mut events) = start(&settings("handshakes = 8", &ranges));
    let connector = certificates.client(None);
    let mut flood = Vec::new();
    for round in 0..60_u8 {
        // The first octets of a handshake, from one host and from many.
        for host in ["127.0.0.9".to_owned(), format!("127.0.1.{round}")] {
            let mut stream = connect_from(&host, listen).await;
            let _ = stream.write_all(&[0x16, 3, 1, 0]).await;
            flood.push(stream);
        }
        if round % 10 == 9 {
            let mut peer = open(&connector, listen, "sbc.example.com").await.unwrap();
            assert_eq!(message(&mut events).await.1, OPTIONS);
            peer.shutdown().await.unwrap();
        }
    }
    assert_eq!(flood.len(), 120);
    let discards = transports.discards();
    until(|| discards.get(Discard::Handshakes) >= 112).await;
    assert!(transports.connections() <= 8);
    assert_eq!(discards.get(Discard::Connections), 0);
}

#[tokio::test]
async fn garbage_on_every_listener_is_counted_and_harms_nobody() {
    let certificates = Certificates::new("garbage", &["sbc.example.com"]);
    let (udp, tcp, tls) = (
        free_port("127.0.0.1"),
        free_port("127.0.0.1"),
        free_port("127.0.0.1"),
    );
    let peer = "127.0.0.2:5060";
    let trunks = trunk("a", "udp", udp, peer, "")
        + &trunk("b", "tcp", tcp, peer, "")
        + &trunk(
            "c",
            "tls",
            tls,
            peer,
            &certificates.tls("sbc.example.com", ""),
        );
    let (transports, mut events) = start(&settings("message_octets = 2000", &trunks));
    let discards = transports.discards();
    let mut good = connect_from("127.0.0.2", tcp).await;
    good.write_all(OPTIONS).await.unwrap();
    message(&mut events).await;

    let datagrams = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    for round in 0..50_usize {
        let garbage: Vec<u8> = (0..3_000)
            .map(|index| (index * 31 + round * 17) as u8)
            .collect();
        datagrams.send_to(&garbage, udp).await.unwrap();
        for listen in [tcp, tls] {
            let mut stream = connect_from("127.0.0.2", listen).await;
            // The other side may close before all is written.
            let _ = stream.write_all(&garbage).await;
            closed(&mut stream).await;
        }
    }
    until(|| discards.get(Discard::Oversized) >= 100).await;
    let counted: Vec<_> = discards.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(
        counted,
        [(Discard::Oversized, 100), (Discard::HandshakeFailed, 50)]
    );
    until(|| transports.connections() <= 1).await;
    good.write_all(OPTIONS).await.unwrap();
    assert_eq!(message(&mut events).await.1, OPTIONS);
}
