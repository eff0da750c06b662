use std::time::Duration;

use super::*;
use crate::next_hop::{Hop, Link, LinkKind, Neighbour, Route, RouteKind};

const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ethernet(index: u32) -> Link {
    Link {
        index,
        name: format!("eth{index}"),
        kind: LinkKind::Ethernet,
        address: Some([2, 0, 0, 0, 0, index as u8]),
        mtu: 1500,
        up: true,
    }
}

fn vlan(index: u32, lower: u32, id: u16) -> Link {
    Link {
        name: format!("vlan{id}"),
        kind: LinkKind::Vlan {
            lower,
            id,
            protocol: 0x8100,
        },
        mtu: 1496,
        ..ethernet(index)
    }
}

fn route(destination: &str, device: u32, gateway: Option<&str>) -> Route {
    Route {
        table: 254,
        destination: destination.parse().unwrap(),
        metric: 0,
        kind: RouteKind::Unicast,
        hops: vec![Hop {
            device,
            gateway: gateway.map(ip),
        }],
        mtu: None,
    }
}

fn target(device: u32, neighbour: &str) -> Target {
    Target {
        device,
        neighbour: ip(neighbour),
    }
}

fn answered(device: u32, neighbour: &str, address: [u8; 6]) -> Event {
    Event::Neighbour(
        target(device, neighbour),
        Neighbour {
            address: Some(address),
            permanent: false,
        },
    )
}

/// A table with what it asked for carried out on a picture of the kernel's.
struct Bench {
    table: NextHopTable,
    now: Instant,
    kernel: HashMap<u32, NextHop>,
    writes: Vec<u32>,
    moved: Vec<(IpAddr, u32)>,
    probes: Vec<Target>,
}

impl Bench {
    /// Two Ethernet devices with the program on them; the default route by the first.
    fn new(limit: usize) -> Self {
        let mut bench = Self {
            table: NextHopTable::new(limit, [(1, 10), (2, 20)]),
            now: Instant::now(),
            kernel: HashMap::new(),
            writes: Vec::new(),
            moved: Vec::new(),
            probes: Vec::new(),
        };
        bench.apply([
            Event::Link(ethernet(1)),
            Event::Link(ethernet(2)),
            Event::Route(route("192.0.2.0/24", 1, None), false),
            Event::Route(route("0.0.0.0/0", 1, Some("192.0.2.254")), false),
            answered(1, "192.0.2.254", GATEWAY),
        ]);
        bench
    }

    fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> bool {
        let fits = self.table.apply(self.now, events);
        self.drain();
        fits
    }

    fn acquire(&mut self, destination: &str) -> u32 {
        let index = self
            .table
            .acquire(self.now, ip("192.0.2.1"), ip(destination))
            .unwrap();
        self.drain();
        index
    }

    fn release(&mut self, destination: &str) {
        self.table.release(ip("192.0.2.1"), ip(destination));
        self.drain();
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.table.next_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.table.timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(output) = self.table.poll() {
            match output {
                Output::Write { index, row } => {
                    self.kernel.insert(index, row);
                    self.writes.push(index);
                }
                Output::Moved {
                    destination, index, ..
                } => self.moved.push((destination, index)),
                Output::Probe(target) => self.probes.push(target),
            }
        }
    }

    fn resolved(&self, index: u32) -> Option<[u8; 6]> {
        let row = self.kernel.get(&index)?;
        (row.resolved == 1).then_some(row.destination)
    }

    fn why(&self) -> Vec<Unresolved> {
        self.table
            .unresolved()
            .map(|(_, why)| why.clone())
            .collect()
    }
}

#[test]
fn destinations_behind_one_gateway_share_a_row() {
    let mut bench = Bench::new(16);
    let row = bench.acquire("8.8.8.8");
    assert_ne!(row, NOWHERE);
    assert_eq!(bench.acquire("9.9.9.9"), row);
    assert_eq!(bench.table.used(), 1);
    let written = bench.kernel[&row];
    assert_eq!(written.interface.get(), 1);
    assert_eq!(written.device.get(), 10);
    assert_eq!(written.mtu.get(), 1500);
    assert_eq!(written.source, [2, 0, 0, 0, 0, 1]);
    assert_eq!(written.destination, GATEWAY);
    assert_eq!((written.tag_count, written.resolved), (0, 1));
}

#[test]
fn a_new_ethernet_address_rewrites_one_row_and_no_flow() {
    let mut bench = Bench::new(16);
    let row = bench.acquire("8.8.8.8");
    bench.acquire("9.9.9.9");
    let onlink = bench.acquire("192.0.2.7");
    bench.writes.clear();
    bench.apply([answered(1, "192.0.2.254", OTHER)]);
    assert_eq!(bench.writes, [row]);
    assert_eq!(bench.resolved(row), Some(OTHER));
    assert_eq!(bench.moved, []);
    assert_eq!(bench.resolved(onlink), None);
}

#[test]
fn a_gateway_that_fails_over_rewrites_one_row_and_no_flow() {
    let mut bench = Bench::new(16);
    let row = bench.acquire("8.8.8.8");
    assert_eq!(bench.acquire("9.9.9.9"), row);
    bench.writes.clear();
    bench.apply([
        answered(2, "198.51.100.254", OTHER),
        Event::Route(route("0.0.0.0/0", 2, Some("198.51.100.254")), true),
    ]);
    assert_eq!(bench.writes, [row]);
    assert_eq!(bench.moved, []);
    assert_eq!(bench.resolved(row), Some(OTHER));
    assert_eq!(bench.kernel[&row].device.get(), 20);
}

#[test]
fn a_more_specific_route_moves_only_its_destinations() {
    let mut bench = Bench::new(16);
    let row = bench.acquire("8.8.8.8");
    assert_eq!(bench.acquire("9.9.9.9"), row);
    bench.apply([
        answered(2, "198.51.100.254", OTHER),
        Event::Route(route("9.0.0.0/8", 2, Some("198.51.100.254")), false),
    ]);
    let [(moved, to)] = bench.moved[..] else {
        panic!("{:?}", bench.moved);
    };
    assert_eq!(moved, ip("9.9.9.9"));
    assert_eq!(bench.resolved(to), Some(OTHER));
    assert_eq!(bench.resolved(row), Some(GATEWAY));
    assert_eq!(bench.acquire("9.9.9.9"), to);

    // And back, when the route goes.
    bench.moved.clear();
    bench.apply([Event::RouteGone(route(
        "9.0.0.0/8",
        2,
        Some("198.51.100.254"),
    ))]);
    let back = bench.acquire("9.9.9.9");
    assert_eq!(bench.resolved(back), Some(GATEWAY));
    assert_eq!(bench.acquire("8.8.8.8"), row);
}

#[test]
fn rows_are_given_back_and_used_again() {
    let mut bench = Bench::new(3);
    let first = bench.acquire("192.0.2.7");
    let second = bench.acquire("192.0.2.8");
    assert_eq!(
        bench
            .table
            .acquire(bench.now, ip("192.0.2.1"), ip("192.0.2.9")),
        Err(TableFull { limit: 3 })
    );
    assert_eq!(bench.acquire("192.0.2.7"), first);
    bench.release("192.0.2.7");
    assert_eq!(bench.table.used(), 2);
    bench.release("192.0.2.7");
    assert_eq!(bench.table.used(), 1);
    bench.release("192.0.2.7");
    assert_eq!(bench.acquire("192.0.2.9"), first);
    bench.release("192.0.2.9");
    bench.release("192.0.2.8");
    assert_eq!(bench.table.used(), 0);
    for row in [first, second] {
        assert_eq!(bench.resolved(row), None);
    }
    assert_eq!(bench.table.next_timeout(), None);
}

#[test]
fn a_silent_neighbour_is_asked_for_less_and_less_often() {
    let mut bench = Bench::new(16);
    let row = bench.acquire("192.0.2.7");
    assert_eq!(bench.why(), [Unresolved::Neighbour]);
    bench.pass(0);
    assert_eq!(bench.probes, [target(1, "192.0.2.7")]);
    // Seconds 1, 3, 7, 15, 31, 63, then every 60.
    bench.pass(62);
    assert_eq!(bench.probes.len(), 6);
    // What else happens to the machine does not hurry it.
    bench.apply([Event::Link(ethernet(2))]);
    bench.pass(120);
    assert_eq!(bench.probes.len(), 8);

    bench.apply([answered(1, "192.0.2.7", OTHER)]);
    assert_eq!(bench.resolved(row), Some(OTHER));
    assert_eq!(bench.why(), []);
    bench.probes.clear();
    bench.pass(61);
    assert_eq!(bench.probes.len(), 2, "seen to be there every 30 seconds");

    bench.probes.clear();
    bench.apply([Event::NeighbourGone(target(1, "192.0.2.7"))]);
    assert_eq!(bench.resolved(row), None);
    bench.pass(0);
    assert_eq!(bench.probes.len(), 1, "asked for at once");
}

#[test]
fn a_neighbour_entered_by_hand_is_never_asked_for() {
    let mut bench = Bench::new(16);
    let row = bench.acquire("192.0.2.7");
    let neighbour = Neighbour {
        address: Some(OTHER),
        permanent: true,
    };
    bench.apply([Event::Neighbour(target(1, "192.0.2.7"), neighbour)]);
    assert_eq!(bench.resolved(row), Some(OTHER));
    assert_eq!(bench.table.next_timeout(), None);
}

#[test]
fn tags_are_written_outermost_first() {
    let mut bench = Bench::new(16);
    bench.apply([
        Event::Link(vlan(5, 1, 100)),
        Event::Link(vlan(6, 5, 200)),
        Event::Link(vlan(7, 6, 300)),
        Event::Route(route("10.5.0.0/16", 5, None), false),
        Event::Route(route("10.6.0.0/16", 6, None), false),
        Event::Route(route("10.7.0.0/16", 7, None), false),
        answered(5, "10.5.0.1", OTHER),
        answered(6, "10.6.0.1", OTHER),
    ]);
    let single = bench.acquire("10.5.0.1");
    let single = bench.kernel[&single];
    assert_eq!((single.interface.get(), single.device.get()), (1, 10));
    assert_eq!((single.tag_count, single.tags[0].control.get()), (1, 100));
    assert_eq!(single.source, [2, 0, 0, 0, 0, 5]);
    assert_eq!((single.mtu.get(), single.resolved), (1496, 1));

    let double = bench.acquire("10.6.0.1");
    let double = bench.kernel[&double];
    assert_eq!(double.tag_count, 2);
    assert_eq!(double.tags.map(|tag| tag.protocol.get()), [0x8100; 2]);
    assert_eq!(double.tags.map(|tag| tag.control.get()), [100, 200]);

    let triple = bench.acquire("10.7.0.1");
    assert_eq!(bench.resolved(triple), None);
    let name = "vlan300".to_owned();
    assert_eq!(bench.why(), [Unresolved::TooManyTags { name }]);

    bench.release("10.7.0.1");
    // The lower device takes the upper ones down with it.
    let mut down = ethernet(1);
    down.up = false;
    assert!(!bench.apply([Event::Link(down)]), "everything is read anew");
    assert_eq!(bench.why(), vec![Unresolved::DeviceDown; 2]);
}

#[test]
fn what_the_program_cannot_send_by_is_refused_by_name() {
    let mut bench = Bench::new(16);
    let bond = Link {
        name: "bond0".into(),
        kind: LinkKind::Unsupported("bond".into()),
        ..ethernet(3)
    };
    bench.apply([
        Event::Link(bond),
        Event::Link(ethernet(4)),
        Event::Route(route("10.3.0.0/16", 3, None), false),
        Event::Route(route("10.4.0.0/16", 4, None), false),
        Event::Route(
            Route {
                kind: RouteKind::Local,
                table: 255,
                ..route("10.9.0.1/32", 1, None)
            },
            false,
        ),
        answered(3, "10.3.0.1", OTHER),
        answered(4, "10.4.0.1", OTHER),
    ]);
    let refused = [
        (
            "10.3.0.1",
            Unresolved::UnsupportedDevice {
                name: "bond0".into(),
                kind: "bond".into(),
            },
        ),
        (
            "10.4.0.1",
            Unresolved::NotOffloaded {
                name: "eth4".into(),
            },
        ),
        ("10.9.0.1", Unresolved::Local),
        ("2001:db8::1", Unresolved::NoRoute),
        ("239.1.1.1", Unresolved::NoRoute),
    ];
    for (destination, why) in refused {
        let row = bench.acquire(destination);
        assert_eq!(bench.resolved(row), None);
        assert_eq!(bench.why(), [why], "{destination}");
        bench.pass(100);
        assert_eq!(bench.probes, [], "there is nobody to ask");
        bench.release(destination);
    }
}

#[test]
fn a_route_that_comes_later_resolves_the_row_in_place() {
    let mut bench = Bench::new(16);
    let row = bench.acquire("2001:db8::1");
    bench.apply([
        Event::Route(route("2001:db8::/64", 2, Some("fe80::1")), false),
        answered(2, "fe80::1", OTHER),
    ]);
    assert_eq!(bench.resolved(row), Some(OTHER));
    assert_eq!(bench.moved, []);
}

#[test]
fn the_routes_limit_of_the_packet_size_is_kept() {
    let mut bench = Bench::new(16);
    let mut narrow = route("10.0.0.0/8", 1, Some("192.0.2.254"));
    narrow.mtu = Some(1300);
    bench.apply([Event::Route(narrow, false)]);
    let (wide, narrow) = (bench.acquire("8.8.8.8"), bench.acquire("10.0.0.1"));
    assert_ne!(wide, narrow);
    assert_eq!(bench.kernel[&wide].mtu.get(), 1500);
    assert_eq!(bench.kernel[&narrow].mtu.get(), 1300);
    bench.apply([answered(1, "192.0.2.254", OTHER)]);
    assert_eq!(bench.resolved(wide), Some(OTHER));
    assert_eq!(bench.resolved(narrow), Some(OTHER));
}

#[test]
fn an_unknown_route_that_goes_asks_for_everything_anew() {
    let mut bench = Bench::new(16);
    let row = bench.acquire("8.8.8.8");
    assert!(!bench.apply([Event::RouteGone(route("10.0.0.0/8", 1, None))]));
    assert_eq!(bench.resolved(row), Some(GATEWAY));

    let mut fresh = Inventory::default();
    fresh.apply(Event::Link(ethernet(2)));
    fresh.apply(Event::Route(route("0.0.0.0/0", 2, Some("10.0.0.1")), false));
    fresh.apply(answered(2, "10.0.0.1", OTHER));
    bench.table.replace(bench.now, fresh);
    bench.drain();
    assert_eq!(bench.resolved(row), Some(OTHER));
}

#[test]
fn a_destination_that_found_the_table_full_gets_a_row_later() {
    let mut bench = Bench::new(3);
    let row = bench.acquire("8.8.8.8");
    assert_eq!(bench.acquire("9.9.9.9"), row);
    bench.acquire("192.0.2.7");
    let specific = route("9.0.0.0/8", 2, Some("198.51.100.254"));
    bench.apply([
        answered(2, "198.51.100.254", OTHER),
        Event::Route(specific, false),
    ]);
    assert_eq!(bench.moved, [(ip("9.9.9.9"), NOWHERE)]);
    bench.release("192.0.2.7");
    bench.moved.clear();
    bench.apply([Event::Link(ethernet(2))]);
    let [(_, to)] = bench.moved[..] else {
        panic!("{:?}", bench.moved);
    };
    assert_eq!(bench.resolved(to), Some(OTHER));
}

#[test]
fn a_vlans_frames_leave_by_the_device_under_it() {
    let mut inventory = Inventory::default();
    for link in [ethernet(1), vlan(5, 1, 100), vlan(6, 5, 200)] {
        inventory.apply(Event::Link(link));
    }
    for (name, lower) in [
        ("eth1", Some("eth1")),
        ("vlan100", Some("eth1")),
        ("vlan200", Some("eth1")),
        ("eth9", None),
    ] {
        assert_eq!(inventory.lower_device(name), lower);
    }
}
