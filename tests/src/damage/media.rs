//! Damage on the media ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use rand::Rng;

use super::{
    Attack, Bench,
    bench::Flow,
    octets::{no_rtp, random, rtp},
};
use crate::lab::{Party, Side};

/// Fewer than a veth pair's ring holds, so that nothing is lost before the daemon sees it.
const BATCH: u64 = 64;
/// Whole datagrams that take more than forty fragments each.
const LARGE: u64 = 8;

/// Every kind, in order.
pub const MEDIA: &[Attack] = &[
    Attack {
        name: "RTP port, kernel path, strangers",
        counted: &[
            ("xdp", "foreign-source"),
            ("userspace", "foreign-source"),
            ("userspace", "stun"),
            ("userspace", "dtls"),
        ],
        batch: |bench| strangers(bench, true),
    },
    Attack {
        name: "RTP port, slow path, strangers",
        counted: &[
            ("userspace", "foreign-source"),
            ("userspace", "stun"),
            ("userspace", "dtls"),
        ],
        batch: |bench| strangers(bench, false),
    },
    Attack {
        name: "RTP port, kernel path, the peer itself",
        counted: &[
            ("xdp", "bad-rtp"),
            ("userspace", "stun"),
            ("userspace", "dtls"),
        ],
        batch: |bench| peers(bench, true),
    },
    Attack {
        name: "RTP port, slow path, the peer itself",
        counted: &[
            ("userspace", "bad-rtp"),
            ("userspace", "stun"),
            ("userspace", "dtls"),
        ],
        batch: |bench| peers(bench, false),
    },
    Attack {
        name: "RTP port, payload types that nobody negotiated",
        counted: &[("xdp", "payload-type"), ("userspace", "payload-type")],
        batch: |bench| {
            each_flow(
                bench,
                |_| true,
                |bench, flow| {
                    let packet = rtp(&mut bench.random.borrow_mut(), 77);
                    bench.inject(flow.party, flow.peer, flow.local, &packet);
                },
            )
        },
    },
    Attack {
        name: "SRTP that nobody has the key for",
        counted: &[
            ("userspace", "srtp-authentication"),
            ("userspace", "srtp-other"),
            ("userspace", "ssrc-rate"),
        ],
        batch: |bench| {
            each_flow(bench, is_srtp, |bench, flow| {
                let packet = rtp(&mut bench.random.borrow_mut(), 0);
                bench.inject(flow.party, flow.peer, flow.local, &packet);
            })
        },
    },
    Attack {
        name: "RTCP port, strangers and the peer itself",
        counted: &[
            ("userspace", "bad-rtcp"),
            ("userspace", "foreign-source"),
            ("userspace", "srtp-authentication"),
            ("userspace", "srtp-other"),
            ("userspace", "stun"),
            ("userspace", "dtls"),
        ],
        batch: |bench| {
            each_flow(
                bench,
                |_| true,
                |bench, flow| {
                    let mut payload = random(&mut bench.random.borrow_mut(), 0..1_200);
                    let (own, report) = {
                        let mut random = bench.random.borrow_mut();
                        (random.random_bool(0.5), random.random_bool(0.5))
                    };
                    if report && payload.len() > 4 {
                        // A sender report as far as one can tell, and far longer than it is.
                        payload[..4].copy_from_slice(&[0x81, 200, 0xff, 0xff]);
                    }
                    let from = if own {
                        next(flow.peer)
                    } else {
                        stranger(bench, flow)
                    };
                    bench.inject(flow.party, from, next(flow.local), &payload);
                },
            )
        },
    },
    Attack {
        name: "media ports without a flow",
        counted: &[("userspace", "unknown-flow")],
        batch: |bench| {
            for _ in 0..BATCH {
                let mut random_source = bench.random.borrow_mut();
                let party = Party::ALL[random_source.random_range(0..3)];
                let used = |port: u16| {
                    bench
                        .flows
                        .iter()
                        .any(|flow| flow.local.port() / 2 == port / 2)
                };
                let mut port = random_source.random_range(20_000..30_000);
                while used(port) {
                    port = random_source.random_range(20_000..30_000);
                }
                let payload = random(&mut random_source, 0..1_200);
                drop(random_source);
                let from = SocketAddr::new(party.ipv4(Side::Peer), 9_999);
                let to = SocketAddr::new(party.ipv4(Side::Sbc), port);
                bench.inject(party, from, to, &payload);
            }
            BATCH
        },
    },
    Attack {
        name: "oversized datagrams, in fragments",
        counted: &[("userspace", "too-large")],
        batch: oversized,
    },
];

fn is_srtp(flow: &Flow) -> bool {
    flow.party == Party::Teams
}

fn next(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

/// Somebody else: of another host, or of the peer's own at another port.
fn stranger(bench: &Bench<'_>, flow: &Flow) -> SocketAddr {
    let IpAddr::V4(peer) = flow.peer.ip() else {
        panic!("the calls are IPv4's");
    };
    let [a, b, c, _] = peer.octets();
    let mut random = bench.random.borrow_mut();
    SocketAddr::from((
        Ipv4Addr::new(a, b, c, random.random_range(50..200)),
        random.random_range(1_024..60_000),
    ))
}

fn each_flow(bench: &Bench<'_>, which: fn(&Flow) -> bool, send: impl Fn(&Bench<'_>, &Flow)) -> u64 {
    let flows: Vec<&Flow> = bench.flows.iter().filter(|flow| which(flow)).collect();
    let mut sent = 0;
    for flow in flows.iter().cycle().take(BATCH as usize) {
        send(bench, flow);
        sent += 1;
    }
    sent
}

fn strangers(bench: &Bench<'_>, kernel: bool) -> u64 {
    let send = |bench: &Bench<'_>, flow: &Flow| {
        let payload = {
            let mut source = bench.random.borrow_mut();
            // As good as the peer's own, or anything.
            if source.random_bool(0.5) {
                rtp(&mut source, 0)
            } else {
                random(&mut source, 0..1_200)
            }
        };
        let elsewhere = SocketAddr::new(flow.peer.ip(), flow.peer.port() ^ 0x4000);
        let from = if payload.len() % 2 == 0 {
            stranger(bench, flow)
        } else {
            elsewhere
        };
        bench.inject(flow.party, from, flow.local, &payload);
    };
    if kernel {
        each_flow(bench, |flow| flow.kernel, send)
    } else {
        each_flow(bench, |flow| !flow.kernel, send)
    }
}

fn peers(bench: &Bench<'_>, kernel: bool) -> u64 {
    let send = |bench: &Bench<'_>, flow: &Flow| {
        let payload = no_rtp(&mut bench.random.borrow_mut());
        bench.inject(flow.party, flow.peer, flow.local, &payload);
    };
    if kernel {
        each_flow(bench, |flow| flow.kernel, send)
    } else {
        each_flow(bench, |flow| !flow.kernel, send)
    }
}

fn oversized(bench: &Bench<'_>) -> u64 {
    for flow in bench.flows.iter().cycle().take(LARGE as usize) {
        let open = || UdpSocket::bind(SocketAddr::new(flow.peer.ip(), 0));
        let entered = bench.scene.lab.peer(flow.party).enter(open);
        let socket = entered.expect("a namespace").expect("a socket");
        let payload = random(&mut bench.random.borrow_mut(), 3_000..65_507);
        let sent = socket.send_to(&payload, flow.local).expect("sent");
        assert_eq!(sent, payload.len());
    }
    LARGE
}
