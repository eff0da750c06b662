//! Packet fixtures: what goes in, the verdict and the reason, what comes out. Each runs through the
//! kernel's program and through the datapath in memory.

use relay_abi::{
    U16, U32,
    flow::{FlowEntry, FlowKey},
    next_hop::NextHop,
    verdict::Reason,
};

use super::{
    lab::{
        INGRESS, Lab, Ran, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, endpoint, entry, key, next_hop,
    },
    packets::{Packet, checksums_are_right, rtp},
};
use crate::offload::Datapath as _;

const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;

struct Fixture {
    description: String,
    flow: Option<(FlowKey, FlowEntry)>,
    next_hop: NextHop,
    input: Vec<u8>,
    verdict: u32,
    reason: Reason,
    /// What leaves; without it the frame stays as it came.
    output: Option<Packet>,
}

/// The ends of a relayed stream in one family.
#[derive(Clone, Copy)]
struct Ends {
    name: &'static str,
    peer: &'static str,
    local: &'static str,
    from: &'static str,
    to: &'static str,
}

const V4: Ends = Ends {
    name: "IPv4",
    peer: "198.51.100.2:30000",
    local: "198.51.100.1:20000",
    from: "203.0.113.1:20002",
    to: "203.0.113.2:40000",
};

const V6: Ends = Ends {
    name: "IPv6",
    peer: "[2001:db8:1::2]:30000",
    local: "[2001:db8:1::1]:20000",
    from: "[2001:db8:2::1]:20002",
    to: "[2001:db8:2::2]:40000",
};

fn voice() -> Vec<u8> {
    rtp(0x80, 0x80, 0x1234, 0x1000_0000, 0x1111_2222, &[0xd5; 160])
}

/// [`voice`] as it leaves by [`entry`].
fn voice_out() -> Vec<u8> {
    rtp(0x80, 0x80, 0x1134, 0x0fff_ff00, 0x3333_4444, &[0xd5; 160])
}

impl Ends {
    fn packet(&self) -> Packet {
        Packet::new(self.peer, self.local, voice())
    }

    /// What [`Ends::packet`] becomes.
    fn relayed(&self) -> Packet {
        Packet {
            source: [2, 0, 0, 0, 1, 1],
            destination: [2, 0, 0, 0, 1, 2],
            hop_limit: 63,
            identification: 0,
            do_not_fragment: true,
            flow_label: 0,
            ..Packet::new(self.from, self.to, voice_out())
        }
    }

    fn flow(&self) -> (FlowKey, FlowEntry) {
        (key(self.local), entry(self.peer, self.from, self.to))
    }

    fn fixture(&self, description: &str) -> Fixture {
        Fixture {
            description: format!("{}: {description}", self.name),
            flow: Some(self.flow()),
            next_hop: next_hop(&[]),
            input: self.packet().octets(),
            verdict: XDP_REDIRECT,
            reason: Reason::Relayed,
            output: Some(self.relayed()),
        }
    }
}

impl Fixture {
    fn input(self, packet: &Packet) -> Self {
        self.octets(packet.octets())
    }

    fn octets(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    fn entry(mut self, change: impl FnOnce(&mut FlowEntry)) -> Self {
        if let Some((_, entry)) = &mut self.flow {
            change(entry);
        }
        self
    }

    fn next_hop(mut self, next_hop: NextHop) -> Self {
        self.next_hop = next_hop;
        self
    }

    fn leaves(mut self, change: impl FnOnce(&mut Packet)) -> Self {
        if let Some(packet) = &mut self.output {
            change(packet);
        }
        self
    }

    fn sent_back(mut self) -> Self {
        self.verdict = XDP_TX;
        self
    }

    fn ends(mut self, verdict: u32, reason: Reason) -> Self {
        self.verdict = verdict;
        self.reason = reason;
        self.output = None;
        self
    }

    fn punted(self, reason: Reason) -> Self {
        self.ends(XDP_PASS, reason)
    }

    fn dropped(self, reason: Reason) -> Self {
        self.ends(XDP_DROP, reason)
    }

    fn passed(self, reason: Reason) -> Self {
        self.ends(XDP_PASS, reason)
    }

    fn run(&self, lab: &mut Lab) {
        println!("{}", self.description);
        if let Some((key, entry)) = &self.flow {
            lab.install(key, entry).expect("installed");
        }
        lab.set_next_hop(3, &self.next_hop);
        let expected = Ran {
            verdict: self.verdict,
            reason: self.reason,
            output: self
                .output
                .as_ref()
                .map_or_else(|| self.input.clone(), Packet::octets),
        };
        let dropped = lab.counters(5)[0].dropped;
        assert_eq!(lab.run(&self.input, 5), expected, "{}", self.description);
        if self.verdict == XDP_DROP && self.flow.is_some() && self.reason != Reason::NoChecksum {
            assert_eq!(
                lab.counters(5)[0].dropped,
                dropped + 1,
                "{}",
                self.description
            );
        }
        if let Some((key, _)) = &self.flow {
            lab.remove(key);
        }
    }
}

fn run(fixtures: impl IntoIterator<Item = Fixture>) {
    let mut lab = Lab::new();
    for fixture in fixtures {
        fixture.run(&mut lab);
    }
}

#[test]
fn relayed() {
    let mut fixtures = Vec::new();
    for ends in [V4, V6] {
        let packet = ends.packet();
        fixtures.extend([
            ends.fixture("out of another interface"),
            ends.fixture("back out of the same interface")
                .next_hop(NextHop {
                    interface: U32::new(INGRESS),
                    ..next_hop(&[])
                })
                .sent_back(),
            ends.fixture("a payload type with another number")
                .input(&Packet {
                    payload: rtp(0x80, 101, 0, 0, 0x1111_2222, &[1, 2, 3, 4]),
                    ..packet.clone()
                })
                .leaves(|packet| {
                    packet.payload = rtp(0x80, 96, 0xff00, 0xffff_ff00, 0x3333_4444, &[1, 2, 3, 4]);
                }),
            ends.fixture("the code point kept, congestion experienced kept")
                .input(&Packet {
                    dscp: 46,
                    ecn: 3,
                    ..packet.clone()
                })
                .leaves(|packet| {
                    packet.dscp = 46;
                    packet.ecn = 3;
                }),
            ends.fixture("the code point written, congestion experienced kept")
                .input(&Packet {
                    dscp: 10,
                    ecn: 3,
                    ..packet.clone()
                })
                .entry(|entry| {
                    entry.flags = U16::new(entry.flags.get() | FlowEntry::SET_DSCP);
                    entry.dscp = 46;
                })
                .leaves(|packet| {
                    packet.dscp = 46;
                    packet.ecn = 3;
                }),
            ends.fixture("contributing sources, an extension and padding")
                .input(&Packet {
                    payload: rtp(
                        0xb1,
                        0,
                        1,
                        2,
                        0x1111_2222,
                        &[9, 9, 9, 9, 0xbe, 0xde, 0, 1, 8, 8, 8, 8, 7, 0, 0, 3],
                    ),
                    ..packet.clone()
                })
                .leaves(|packet| {
                    packet.payload = rtp(
                        0xb1,
                        0,
                        0xff01,
                        0xffff_ff02,
                        0x3333_4444,
                        &[9, 9, 9, 9, 0xbe, 0xde, 0, 1, 8, 8, 8, 8, 7, 0, 0, 3],
                    );
                }),
            ends.fixture("padding alone")
                .input(&Packet {
                    payload: rtp(0xa0, 0, 1, 2, 0x1111_2222, &[0, 0, 0, 4]),
                    ..packet.clone()
                })
                .leaves(|packet| {
                    packet.payload = rtp(0xa0, 0, 0xff01, 0xffff_ff02, 0x3333_4444, &[0, 0, 0, 4]);
                }),
            ends.fixture("a header alone")
                .input(&Packet {
                    payload: rtp(0x80, 0, 1, 2, 0x1111_2222, &[]),
                    ..packet.clone()
                })
                .leaves(|packet| {
                    packet.payload = rtp(0x80, 0, 0xff01, 0xffff_ff02, 0x3333_4444, &[]);
                }),
            ends.fixture("the last hop but one")
                .input(&Packet {
                    hop_limit: 2,
                    ..packet.clone()
                })
                .leaves(|packet| packet.hop_limit = 1),
            ends.fixture("exactly as large as the next hop takes")
                .next_hop(NextHop {
                    mtu: U16::new(if ends.name == "IPv4" { 200 } else { 220 }),
                    ..next_hop(&[])
                }),
        ]);
    }
    fixtures.push(
        V4.fixture("no UDP checksum stays none")
            .input(&Packet {
                checksum: false,
                ..V4.packet()
            })
            .leaves(|packet| packet.checksum = false),
    );
    run(fixtures);
}

#[test]
fn tags_in_and_out() {
    let tags: [&[(u16, u16)]; 4] = [
        &[],
        &[(C_TAG, 100)],
        &[(S_TAG, 200), (C_TAG, 100)],
        &[(C_TAG, 7), (C_TAG, 8)],
    ];
    let mut fixtures = Vec::new();
    for ends in [V4, V6] {
        for incoming in tags {
            for outgoing in tags {
                fixtures.push(
                    ends.fixture(&format!("tags {incoming:?} in, {outgoing:?} out"))
                        .input(&Packet {
                            tags: incoming.to_vec(),
                            ..ends.packet()
                        })
                        .next_hop(next_hop(outgoing))
                        .leaves(|packet| packet.tags = outgoing.to_vec()),
                );
            }
        }
        fixtures.push(
            ends.fixture("three tags")
                .input(&Packet {
                    tags: vec![(S_TAG, 1), (C_TAG, 2), (C_TAG, 3)],
                    ..ends.packet()
                })
                .passed(Reason::NotIp),
        );
    }
    run(fixtures);
}

/// A checksum that an increment makes zero has to be sent as all ones, which a payload is searched
/// for: the check is that of etherparse, from scratch.
#[test]
fn a_checksum_of_zero_is_sent_as_all_ones() {
    for ends in [V4, V6] {
        let found = (0..=u16::MAX).find_map(|filler| {
            let mut payload = voice_out();
            payload[20..22].copy_from_slice(&filler.to_be_bytes());
            let out = Packet {
                payload,
                ..ends.relayed()
            };
            let octets = out.octets();
            let checksum = octets.len() - out.payload.len() - 2;
            (octets[checksum..checksum + 2] == [0xff, 0xff]).then_some((filler, out))
        });
        let (filler, out) = found.expect("one of all sums");
        let mut packet = ends.packet();
        packet.payload[20..22].copy_from_slice(&filler.to_be_bytes());
        let fixture = ends
            .fixture("a sum of zero")
            .input(&packet)
            .leaves(|packet| *packet = out);
        assert_eq!(checksums_are_right(&fixture.input), Some(true));
        run([fixture]);
    }
}

#[test]
fn dropped() {
    let mut fixtures = Vec::new();
    for ends in [V4, V6] {
        let packet = ends.packet();
        let (other_address, other_port) = if ends.name == "IPv4" {
            ("198.51.100.3:30000", "198.51.100.2:30002")
        } else {
            ("[2001:db8:1::3]:30000", "[2001:db8:1::2]:30002")
        };
        for (description, source) in [
            ("a foreign address", other_address),
            ("a foreign port", other_port),
        ] {
            fixtures.push(
                ends.fixture(description)
                    .input(&Packet::new(source, ends.local, voice()))
                    .dropped(Reason::ForeignSource),
            );
        }
        fixtures.push(
            ends.fixture("held")
                .entry(|entry| entry.flags = U16::new(entry.flags.get() | FlowEntry::HELD))
                .dropped(Reason::Held),
        );
        fixtures.push(
            ends.fixture("a payload type that was not negotiated")
                .input(&Packet {
                    payload: rtp(0x80, 8, 1, 2, 0x1111_2222, &[0; 160]),
                    ..packet.clone()
                })
                .dropped(Reason::PayloadType),
        );
        fixtures.push(
            ends.fixture("no payload type was negotiated")
                .entry(|entry| entry.payload_type_count = 0)
                .dropped(Reason::PayloadType),
        );
        for (description, payload) in [
            ("nothing in the datagram", vec![]),
            ("one octet of RTP", vec![0x80]),
            (
                "eleven octets of RTP",
                rtp(0x80, 0, 1, 2, 3, &[])[..11].to_vec(),
            ),
            ("RTP version 1", rtp(0x40, 0, 1, 2, 0x1111_2222, &[0; 160])),
            ("RTP version 3", rtp(0xc0, 0, 1, 2, 0x1111_2222, &[0; 160])),
            ("ZRTP", rtp(0x10, 0, 1, 2, 0x1111_2222, &[0; 160])),
            (
                "contributing sources cut short",
                rtp(0x82, 0, 1, 2, 0x1111_2222, &[0; 7]),
            ),
            (
                "an extension cut short",
                rtp(0x90, 0, 1, 2, 0x1111_2222, &[0xbe, 0xde, 0xff, 0xff, 0]),
            ),
            (
                "half an extension header",
                rtp(0x90, 0, 1, 2, 0x1111_2222, &[0xbe, 0xde]),
            ),
            ("padding of none", rtp(0xa0, 0, 1, 2, 0x1111_2222, &[1, 0])),
            (
                "padding that reaches into the header",
                rtp(0xa0, 0, 1, 2, 0x1111_2222, &[1, 3]),
            ),
            (
                "padding that reaches into the extension",
                rtp(0xb0, 0, 1, 2, 0x1111_2222, &[0, 0, 0, 0, 1, 3]),
            ),
            ("padding without room", rtp(0xa0, 0, 1, 2, 0x1111_2222, &[])),
        ] {
            fixtures.push(
                ends.fixture(description)
                    .input(&Packet {
                        payload,
                        ..packet.clone()
                    })
                    .dropped(Reason::BadRtp),
            );
        }
    }
    fixtures.push(
        V6.fixture("no UDP checksum")
            .input(&Packet {
                checksum: false,
                ..V6.packet()
            })
            .dropped(Reason::NoChecksum),
    );
    run(fixtures);
}

#[test]
fn punted() {
    let mut fixtures = Vec::new();
    for ends in [V4, V6] {
        let packet = ends.packet();
        for (description, payload, reason) in [
            ("RTCP", vec![0x80, 200, 0, 6, 1, 1, 1, 1], Reason::Rtcp),
            ("RTCP of two octets", vec![0x81, 201], Reason::Rtcp),
            (
                "STUN",
                vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42],
                Reason::Stun,
            ),
            ("one octet of STUN", vec![1], Reason::Stun),
            ("DTLS", vec![22, 254, 253, 0, 0], Reason::Dtls),
        ] {
            fixtures.push(
                ends.fixture(description)
                    .input(&Packet {
                        payload,
                        ..packet.clone()
                    })
                    .punted(reason),
            );
        }
        let mut unknown = ends.fixture("no flow").punted(Reason::UnknownFlow);
        unknown.flow = None;
        fixtures.push(unknown);
        let mut other = ends
            .fixture("another flow only")
            .punted(Reason::UnknownFlow);
        other.flow = Some((
            key(&ends.local.replace(":20000", ":20002")),
            entry(ends.peer, ends.from, ends.to),
        ));
        fixtures.push(other);
        let flags = |flags: u16| move |entry: &mut FlowEntry| entry.flags = U16::new(flags);
        fixtures.extend([
            ends.fixture("a flow of userspace")
                .entry(flags(
                    FlowEntry::PINNED | FlowEntry::SSRC_KNOWN | FlowEntry::USERSPACE,
                ))
                .punted(Reason::Userspace),
            ends.fixture("no pinned peer")
                .entry(flags(FlowEntry::SSRC_KNOWN))
                .punted(Reason::NotPinned),
            ends.fixture("held and no pinned peer")
                .entry(flags(FlowEntry::HELD))
                .punted(Reason::NotPinned),
            ends.fixture("no known SSRC")
                .entry(flags(FlowEntry::PINNED))
                .punted(Reason::NewSsrc),
            ends.fixture("another SSRC")
                .entry(|entry| entry.ssrc_in = U32::new(0x1111_2223))
                .punted(Reason::NewSsrc),
            ends.fixture("an unresolved next hop")
                .next_hop(NextHop {
                    resolved: 0,
                    ..next_hop(&[])
                })
                .punted(Reason::UnresolvedNextHop),
            ends.fixture("a next hop that was never written")
                .entry(|entry| entry.next_hop = U32::new(4))
                .punted(Reason::UnresolvedNextHop),
            ends.fixture("a device that is not in the device map")
                .next_hop(NextHop {
                    device: U32::new(1),
                    ..next_hop(&[])
                })
                .punted(Reason::UnresolvedNextHop),
            ends.fixture("a slot behind the device map")
                .next_hop(NextHop {
                    device: U32::new(1_000_000),
                    ..next_hop(&[])
                })
                .punted(Reason::UnresolvedNextHop),
            ends.fixture("one octet too large for the next hop")
                .next_hop(NextHop {
                    mtu: U16::new(if ends.name == "IPv4" { 199 } else { 219 }),
                    ..next_hop(&[])
                })
                .punted(Reason::TooLarge),
            ends.fixture("the last hop")
                .input(&Packet {
                    hop_limit: 1,
                    ..packet.clone()
                })
                .punted(Reason::TtlExpired),
            ends.fixture("no hop left")
                .input(&Packet {
                    hop_limit: 0,
                    ..packet.clone()
                })
                .punted(Reason::TtlExpired),
        ]);
    }

    let mut options = V4.packet().octets();
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 0]);
    fixtures.push(
        V4.fixture("options")
            .octets(options)
            .punted(Reason::IpOptions),
    );
    for (description, flags) in [
        ("the first fragment", [0x20, 0x00]),
        ("a middle fragment", [0x20, 0x10]),
        ("the last fragment", [0x00, 0x10]),
    ] {
        let mut fragment = V4.packet().octets();
        fragment[20..22].copy_from_slice(&flags);
        fixtures.push(
            V4.fixture(description)
                .octets(fragment)
                .punted(Reason::Fragment),
        );
    }
    for next_header in [0, 43, 44, 60] {
        let mut extension = V6.packet().octets();
        extension[20] = next_header;
        fixtures.push(
            V6.fixture(&format!("extension header {next_header}"))
                .octets(extension)
                .punted(Reason::ExtensionHeader),
        );
    }
    run(fixtures);
}

#[test]
fn passed() {
    let mut fixtures = Vec::new();
    for ends in [V4, V6] {
        let packet = ends.packet();
        for port in ["19999", "30000"] {
            fixtures.push(
                ends.fixture("not a media port")
                    .input(&Packet::new(
                        ends.peer,
                        &ends.local.replace("20000", port),
                        voice(),
                    ))
                    .passed(Reason::NotMedia),
            );
        }
        let octets = packet.octets();
        let network = if ends.name == "IPv4" { 20 } else { 40 };
        for length in [14, 15, 14 + network - 1] {
            fixtures.push(
                ends.fixture(&format!("a runt of {length} octets"))
                    .octets(octets[..length].to_vec())
                    .passed(Reason::NotIp),
            );
        }
        for length in [14 + network, 14 + network + 7, octets.len() - 1] {
            fixtures.push(
                ends.fixture(&format!("cut short at {length} octets"))
                    .octets(octets[..length].to_vec())
                    .passed(Reason::NotUdp),
            );
        }
        let mut transport = octets.clone();
        transport[if ends.name == "IPv4" { 23 } else { 20 }] = 6;
        fixtures.push(ends.fixture("TCP").octets(transport).passed(Reason::NotUdp));
        let mut version = octets.clone();
        version[14] = 0x55;
        fixtures.push(
            ends.fixture("a version of IP that nobody has")
                .octets(version)
                .passed(Reason::NotIp),
        );
        for length in [0, 7, 171, 181] {
            let mut wrong = octets.clone();
            wrong[14 + network + 4..14 + network + 6].copy_from_slice(&u16::to_be_bytes(length));
            fixtures.push(
                ends.fixture(&format!("a UDP length of {length}"))
                    .octets(wrong)
                    .passed(Reason::NotUdp),
            );
        }
        let mut arp = octets.clone();
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        fixtures.push(ends.fixture("ARP").octets(arp).passed(Reason::NotIp));
        let mut tag = packet.octets()[..16].to_vec();
        tag[12..14].copy_from_slice(&[0x81, 0]);
        fixtures.push(ends.fixture("half a tag").octets(tag).passed(Reason::NotIp));
    }
    let mut short = V4.packet().octets();
    short[14] = 0x44;
    fixtures.push(
        V4.fixture("a header length of four words")
            .octets(short)
            .passed(Reason::NotIp),
    );
    let mapped = Packet::new(V6.peer, "[::ffff:198.51.100.1]:20000", voice());
    fixtures.push(
        V4.fixture("an IPv4-mapped address in IPv6 does not find the flow of IPv4")
            .input(&mapped)
            .passed(Reason::NotMedia),
    );
    run(fixtures);
}

/// A frame longer than its packet, as Ethernet's padding to 60 octets makes it, leaves with the
/// same octets behind.
#[test]
fn octets_behind_the_packet_stay() {
    let mut lab = Lab::new();
    let (key, entry) = V4.flow();
    lab.install(&key, &entry).expect("installed");
    lab.set_next_hop(3, &next_hop(&[]));
    let mut input = V4.packet().octets();
    input.extend_from_slice(&[0xee; 6]);
    let ran = lab.run(&input, 5);
    let mut expected = V4.relayed().octets();
    expected.extend_from_slice(&[0xee; 6]);
    assert_eq!(ran.reason, Reason::Relayed);
    assert_eq!(ran.output, expected);
}

#[test]
fn the_verdicts_of_one_flow_after_another() {
    let mut lab = Lab::new();
    lab.set_next_hop(3, &next_hop(&[]));
    lab.set_next_hop(
        6,
        &NextHop {
            interface: U32::new(INGRESS),
            ..next_hop(&[(C_TAG, 9)])
        },
    );
    let (key, mut entry) = V4.flow();
    let input = V4.packet().octets();
    assert_eq!(lab.run(&input, 5).reason, Reason::UnknownFlow);
    lab.install(&key, &entry).expect("installed");
    assert_eq!(lab.run(&input, 5).verdict, XDP_REDIRECT);
    entry.next_hop = U32::new(6);
    entry.counters = U32::new(7);
    lab.install(&key, &entry).expect("changed");
    assert_eq!(lab.run(&input, 7).verdict, XDP_TX);
    entry.peer = endpoint("198.51.100.9:1");
    lab.install(&key, &entry).expect("changed");
    assert_eq!(lab.run(&input, 7).reason, Reason::ForeignSource);
    assert_eq!(lab.run(&input, 7).reason, Reason::ForeignSource);
    lab.remove(&key);
    assert_eq!(lab.run(&input, 7).reason, Reason::UnknownFlow);

    for counters in [lab.counters(5), lab.counters(7)].as_flattened() {
        assert_eq!(counters.packets, 1);
        assert_eq!(counters.octets, 172);
    }
    assert_eq!(lab.counters(7)[0].dropped, 2);
    for events in [lab.kernel.events(), lab.memory.events()] {
        let [event] = events[..] else {
            panic!("one event for the flow's first drop: {events:?}");
        };
        assert_eq!(event.key, key);
        assert_eq!(event.source, endpoint(V4.peer));
        assert_eq!(event.reason.get(), Reason::ForeignSource as u16);
    }
    assert_eq!(lab.kernel.event_losses(), Ok(0));

    lab.kernel.clear_counters(7).expect("cleared");
    assert_eq!(lab.kernel.read(7).expect("read"), Default::default());
}

#[test]
fn reception_is_counted_as_the_source_sent() {
    let mut lab = Lab::new();
    let (key, entry) = V4.flow();
    lab.install(&key, &entry).expect("installed");
    lab.set_next_hop(3, &next_hop(&[]));
    // Over the wrap of the sequence numbers: one late, one twice, three missing.
    for sequence in [65_533, 65_534, 0, 65_535, 0, 3, 5] {
        let payload = rtp(0x80, 0, sequence, 160, 0x1111_2222, &[0; 160]);
        let packet = Packet {
            payload,
            ..V4.packet()
        };
        assert_eq!(lab.run(&packet.octets(), 5).reason, Reason::Relayed);
    }
    for counters in lab.counters(5) {
        assert_eq!(counters.packets, 7);
        let reception = counters.reception;
        assert_eq!(reception.received, 7);
        assert_eq!(reception.generation, 1);
        assert_eq!(reception.highest_sequence, 65_536 + 5);
        assert_eq!(reception.lost(), 9 - 7);
        assert_eq!(reception.last_sequence, 0xff05);
    }
}
