//! Damage on the admin socket and the metrics' address.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use rand::Rng;

use super::{
    Attack, Bench,
    signalling::{anything, closed},
};
use crate::daemon::METRICS;

const CONNECTIONS: u64 = 8;
const CLOSING: Duration = Duration::from_secs(20);

/// Every kind, in order.
pub const OPERATORS: &[Attack] = &[
    Attack {
        name: "admin socket, lines that are no request",
        counted: &[("edge", "admin-request")],
        batch: |bench| {
            let mut stream = admin(bench);
            for index in 0..CONNECTIONS {
                let mut line = anything(&mut bench.random.borrow_mut());
                line.retain(|octet| *octet != b'\n');
                if index % 2 == 0 {
                    line = b"{\"command\":\"call\",\"id\":[[[".to_vec();
                }
                line.push(b'\n');
                stream.write_all(&line).expect("written");
                let mut answer = Vec::new();
                while answer.last() != Some(&b'\n') {
                    let mut octet = [0];
                    stream.read_exact(&mut octet).expect("an answer");
                    answer.extend(octet);
                }
                assert!(answer.starts_with(b"{\"error\":"));
            }
            CONNECTIONS
        },
    },
    Attack {
        name: "admin socket, lines without an end",
        counted: &[("edge", "admin-request")],
        batch: |bench| {
            for index in 0..CONNECTIONS {
                let mut stream = admin(bench);
                let octets = match index % 2 {
                    0 => vec![b'['; 100_000],
                    _ => b"{\"command\":\"cal"[..bench.random.borrow_mut().random_range(1..15)]
                        .to_vec(),
                };
                let _ = stream.write_all(&octets);
                let _ = stream.shutdown(Shutdown::Write);
                closed(&mut stream);
            }
            CONNECTIONS
        },
    },
    Attack {
        name: "metrics, garbage, cut requests and heads without an end",
        counted: &[("edge", "metrics-request")],
        batch: |bench| {
            for index in 0..CONNECTIONS {
                let octets = match index % 4 {
                    0 => anything(&mut bench.random.borrow_mut()),
                    1 => b"GET /metrics HTTP/1.1\r\nHost: a\r\n"
                        [..bench.random.borrow_mut().random_range(1..33)]
                        .to_vec(),
                    2 => [b"GET /metrics HTTP/1.1\r\nX: ", &vec![b'x'; 1 << 20][..]].concat(),
                    _ => b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
                };
                let open = || TcpStream::connect(METRICS);
                let entered = bench.scene.lab.sbc().enter(open);
                let mut stream = entered.expect("a namespace").expect("a connection");
                stream.set_read_timeout(Some(CLOSING)).expect("a timeout");
                let _ = stream.write_all(&octets);
                let _ = stream.shutdown(Shutdown::Write);
                closed(&mut stream);
            }
            CONNECTIONS
        },
    },
];

fn admin(bench: &Bench<'_>) -> UnixStream {
    let stream = UnixStream::connect(bench.scene.daemon.socket()).expect("the admin socket");
    stream.set_read_timeout(Some(CLOSING)).expect("a timeout");
    stream
}
