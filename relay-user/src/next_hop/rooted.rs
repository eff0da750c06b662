//! The watcher against the kernel, in network namespaces of its own.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use relay_abi::next_hop::NextHop;

use super::{NOWHERE, Sink, Unresolved, Watcher};
use crate::namespace::Namespace;

/// Sends what is written to the test, which waits for what it expects.
struct Written {
    rows: mpsc::Sender<(u32, NextHop)>,
    moved: Arc<Mutex<Vec<IpAddr>>>,
}

impl Sink for Written {
    fn write(&self, index: u32, row: &NextHop) {
        self.rows.send((index, *row)).unwrap();
    }

    fn moved(&self, moved: &[(IpAddr, IpAddr, u32)]) {
        let destinations = moved.iter().map(|(_, destination, _)| *destination);
        self.moved.lock().unwrap().extend(destinations);
    }
}

/// A watcher in a namespace with `near0`, joined by a veth to `far0` in another one.
struct Bench {
    ours: Namespace,
    peer: Namespace,
    watcher: Watcher,
    rows: mpsc::Receiver<(u32, NextHop)>,
    moved: Arc<Mutex<Vec<IpAddr>>>,
}

const SOURCES: [&str; 2] = ["10.77.0.1", "fd77::1"];

impl Bench {
    fn new() -> Self {
        let (ours, peer) = (Namespace::new(), Namespace::new());
        ours.veth("near0", &peer, "far0");
        ours.ip("address add 10.77.0.1/24 dev near0");
        ours.ip("address add fd77::1/64 dev near0 nodad");
        peer.ip("address add 10.77.0.2/24 dev far0");
        peer.ip("address add fd77::2/64 dev far0 nodad");
        peer.ip("address add 10.77.0.3/24 dev far0");
        let device = ours.index("near0");
        let (sender, rows) = mpsc::channel();
        let moved = Arc::default();
        let written = Written {
            rows: sender,
            moved: Arc::clone(&moved),
        };
        let watcher = ours.enter(|| Watcher::start(64, [(device, 3)], written).unwrap());
        Self {
            ours,
            peer,
            watcher,
            rows,
            moved,
        }
    }

    fn acquire(&self, destination: &str) -> u32 {
        let source = SOURCES[usize::from(destination.contains(':'))];
        self.watcher
            .acquire(source.parse().unwrap(), destination.parse().unwrap())
            .unwrap()
    }

    /// How many messages the kernel had no room for in the namespace's netlink sockets.
    fn overruns(&self) -> u64 {
        let shown = self.ours.run("cat", "/proc/net/netlink");
        let mut lines = shown.lines();
        let mut names = lines.next().unwrap().split_whitespace();
        let column = names.position(|name| name == "Drops").unwrap();
        let drops = lines.map(|line| line.split_whitespace().nth(column).unwrap());
        drops.map(|drops| drops.parse::<u64>().unwrap()).sum()
    }

    /// The next row written for `index` that `wanted` takes.
    fn wait(&self, index: u32, wanted: impl Fn(&NextHop) -> bool) -> NextHop {
        loop {
            let (written, row) = self
                .rows
                .recv_timeout(Duration::from_secs(20))
                .expect("the row is not written");
            if written == index && wanted(&row) {
                return row;
            }
        }
    }
}

#[test]
fn neighbours_are_found_without_a_packet_and_followed() {
    let bench = Bench::new();
    for destination in ["10.77.0.2", "fd77::2"] {
        let row = bench.acquire(destination);
        assert_ne!(row, NOWHERE);
        let found = bench.wait(row, |row| row.resolved == 1);
        assert_eq!(found.destination, bench.peer.hardware("far0"));
        assert_eq!(found.source, bench.ours.hardware("near0"));
        assert_eq!(found.interface.get(), bench.ours.index("near0"));
        assert_eq!((found.device.get(), found.mtu.get()), (3, 1500));
    }

    // The peer is replaced by another machine, which announces itself.
    let row = bench.acquire("10.77.0.2");
    bench.peer.ip("link set far0 address 02:00:00:00:77:02");
    bench
        .ours
        .ip("neighbour replace 10.77.0.2 lladdr 02:00:00:00:77:02 dev near0 nud reachable");
    bench.wait(row, |row| row.destination == [2, 0, 0, 0, 0x77, 2]);

    // It goes away and comes back: asked for at once, without a packet of ours.
    bench.ours.ip("neighbour del 10.77.0.2 dev near0");
    bench.wait(row, |row| row.resolved == 0);
    bench.wait(row, |row| row.resolved == 1);
}

#[test]
fn routes_are_followed_and_a_silent_neighbour_stays_unresolved() {
    let bench = Bench::new();
    bench.ours.ip("route add default via 10.77.0.2");
    // The route came after the start: wait until it has arrived.
    let row = bench.acquire("192.0.2.99");
    bench.wait(row, |row| row.resolved == 1);

    // A gateway that does not answer: nothing leaves by the row, and it is said why.
    bench.ours.ip("route replace default via 10.77.0.99");
    bench.wait(row, |row| row.resolved == 0);
    let why: Vec<Unresolved> = bench
        .watcher
        .look(|table| table.unresolved().map(|(_, why)| why.clone()).collect());
    assert_eq!(why, [Unresolved::Neighbour]);

    bench.ours.ip("route replace default via 10.77.0.3");
    let found = bench.wait(row, |row| row.resolved == 1);
    assert_eq!(found.destination, bench.peer.hardware("far0"));
    assert!(bench.moved.lock().unwrap().is_empty());

    // A link that goes down takes its routes with it, which the kernel does not tell.
    bench.ours.ip("link set near0 down");
    bench.wait(row, |row| row.resolved == 0);
    bench.ours.ip("link set near0 up");
    bench.ours.ip("route replace default via 10.77.0.3");
    bench.wait(row, |row| row.resolved == 1);

    bench
        .watcher
        .release(SOURCES[0].parse().unwrap(), "192.0.2.99".parse().unwrap());
    bench.wait(row, |row| row.resolved == 0);
    assert_eq!(bench.watcher.look(|table| table.used()), 0);
}

#[test]
fn policy_rules_are_followed() {
    let bench = Bench::new();
    bench.ours.ip("address add 10.77.0.11/24 dev near0");
    bench.ours.ip("route add default via 10.77.0.2");
    bench.ours.ip("route add default via 10.77.0.3 table 77");
    let row = bench.acquire("192.0.2.99");
    bench.wait(row, |row| row.resolved == 1);
    bench.peer.ip("link set far0 address 02:00:00:00:77:02");
    bench
        .ours
        .ip("neighbour replace 10.77.0.3 lladdr 02:00:00:00:77:03 dev near0");

    bench
        .ours
        .ip("rule add from 10.77.0.1 lookup 77 priority 100");
    bench.wait(row, |row| row.destination == [2, 0, 0, 0, 0x77, 3]);
    bench.ours.ip("rule del priority 100");
    bench.wait(row, |row| row.destination != [2, 0, 0, 0, 0x77, 3]);
}

#[test]
fn more_changes_than_the_socket_holds_are_caught_up_with() {
    let bench = Bench::new();
    let row = bench.acquire("10.77.0.2");
    bench.wait(row, |row| row.resolved == 1);
    // Enough notifications to overrun the socket while its reader is kept from the table.
    let batch: String = (0..40_000)
        .map(|number| {
            format!(
                "route add 172.{}.{}.{}/32 via 10.77.0.3\n",
                16 + number / 65536,
                number / 256 % 256,
                number % 256
            )
        })
        .collect();
    bench.watcher.look(|_| {
        bench.ours.ip_batch(&batch);
        bench
            .ours
            .ip("neighbour replace 10.77.0.2 lladdr 02:00:00:00:77:09 dev near0");
    });
    assert!(bench.overruns() > 0, "the socket has held all of it");
    bench.wait(row, |row| row.destination == [2, 0, 0, 0, 0x77, 9]);
    let late = bench.acquire("172.16.156.63");
    bench.wait(late, |row| row.resolved == 1);
}
