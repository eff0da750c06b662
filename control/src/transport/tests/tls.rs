//! TLS, and noise on every transport.

use std::{fs, net::SocketAddr, path::PathBuf};

use bytes::Bytes;
use tokio::{io::AsyncWriteExt, net::UdpSocket};

use super::{OPTIONS, closed, connect_from, free, message, settings, start, trunk};
use crate::{
    sip::{Target, Transport},
    transport::{Discard, SendError, TransportEvent},
};

struct Certificates(PathBuf);

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
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
        for name in names {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(vec![(*name).to_owned()])
                .unwrap()
                .signed_by(&key, &issuer)
                .unwrap();
            fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self(folder)
    }

    fn tls(&self, name: &str, more: &str) -> String {
        let folder = self.0.display();
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
    }
}

#[tokio::test]
async fn tls_checks_both_certificates() {
    let certificates = Certificates::new("mutual", &["sbc.example.com", "peer.example.com"]);
    let (ours, theirs) = (free("127.0.0.1"), free("127.0.0.2"));
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
            free("127.0.0.1"),
            &theirs.to_string(),
            &certificates.tls("sbc.example.com", "server_name = \"other.example.com\""),
        ),
    ));
    let target = tls_target(SocketAddr::new(ours.ip(), 0), theirs, "other.example.com");
    other.send(&target, Bytes::from_static(OPTIONS)).unwrap();
    match other_events.recv().await.unwrap() {
        TransportEvent::Failed(failed) => assert_eq!(failed, target),
        event => panic!("{event:?}"),
    }
    while peer.discards().get(Discard::HandshakeFailed) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_on_new_connections() {
    let certificates = Certificates::new("renewed", &["sbc.example.com", "peer.example.com"]);
    let (ours, theirs) = (free("127.0.0.1"), free("127.0.0.2"));
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
    let (transports, _events) = start(&us);
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
            certificates.0.join(format!("peer.example.com.{ending}")),
            certificates.0.join(format!("sbc.example.com.{ending}")),
        )
        .unwrap();
    }
    transports.reload(&us).unwrap();
    assert_ne!(connection().await, first);
}

#[tokio::test]
async fn garbage_on_every_listener_is_counted_and_harms_nobody() {
    let certificates = Certificates::new("garbage", &["sbc.example.com"]);
    let (udp, tcp, tls) = (free("127.0.0.1"), free("127.0.0.1"), free("127.0.0.1"));
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
    while discards.get(Discard::Oversized) < 100 {
        tokio::task::yield_now().await;
    }
    let counted: Vec<_> = discards.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(
        counted,
        [(Discard::Oversized, 100), (Discard::HandshakeFailed, 50)]
    );
    while transports.connections() > 1 {
        tokio::task::yield_now().await;
    }
    good.write_all(OPTIONS).await.unwrap();
    assert_eq!(message(&mut events).await.1, OPTIONS);
}
