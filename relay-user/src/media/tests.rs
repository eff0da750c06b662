//! What the tests of this module share.

use super::{CallMedia, Latching, LegMedia, MediaPort, RemoteMedia, SourcePolicy, Stream};

/// A plain call over IPv4: PCMU and telephone events, both ways.
pub(crate) fn call() -> CallMedia {
    let leg = |local: &str, remote: &str| {
        let rtp: std::net::SocketAddr = remote.parse().unwrap();
        LegMedia {
            port: MediaPort {
                rtp: local.parse().unwrap(),
            },
            remote: Some(RemoteMedia {
                rtp,
                rtcp: std::net::SocketAddr::new(rtp.ip(), rtp.port() + 1),
            }),
            sources: SourcePolicy {
                latching: Latching::Latch,
                allowed: Vec::new(),
            },
            negotiation: 1,
            srtp: None,
            ice: None,
            rtcp_mux: false,
            dscp: None,
        }
    };
    let stream = || Stream {
        active: true,
        payload_types: vec![(0, 0), (101, 101)],
        clock_rate: 8000,
    };
    CallMedia {
        legs: [
            leg("198.51.100.1:20000", "198.51.100.2:6000"),
            leg("192.0.2.1:20002", "192.0.2.2:7000"),
        ],
        streams: [stream(), stream()],
    }
}
