//! SRTP through the kernel: telephones that know their keys by libsrtp, and those who do not.

mod strays;

use std::os::fd::AsRawFd as _;

use super::*;
use crate::srtp::{Inbound, Outbound, TRAILER};

const LONG: SrtpSuite = SrtpSuite::AesCm128HmacSha1_80;
const SHORT: SrtpSuite = SrtpSuite::AesCm128HmacSha1_32;

fn key(suite: SrtpSuite, octet: u8) -> SrtpKey {
    SrtpKey {
        suite,
        master: vec![octet; suite.master_length()].into(),
        mki: None,
    }
}

/// The keys of a leg as we have them, the two directions apart.
fn keys(suite: SrtpSuite, octet: u8) -> SrtpKeys {
    SrtpKeys {
        protect: key(suite, octet),
        unprotect: key(suite, octet + 1),
    }
}

/// A telephone, and what it protects and unprotects with if its leg is SRTP.
struct Phone {
    line: Telephone,
    contexts: Option<(Outbound, Inbound)>,
}

impl Phone {
    fn new(line: Telephone, keys: Option<&SrtpKeys>) -> Self {
        let mut phone = Self {
            line,
            contexts: None,
        };
        phone.rekey(keys);
        phone
    }

    fn rekey(&mut self, keys: Option<&SrtpKeys>) {
        self.contexts = keys.map(|keys| {
            (
                Outbound::new(&keys.unprotect).unwrap(),
                Inbound::new(&keys.protect).unwrap(),
            )
        });
    }

    /// The next packet, `step` sequence numbers on, and its number.
    fn packet(&mut self, step: u16) -> (Vec<u8>, u16) {
        let mut packet = self.line.next_packet(0, step);
        if let Some((out, _)) = &mut self.contexts {
            packet.resize(172 + TRAILER, 0);
            let length = out.protect(&mut packet, 172).unwrap();
            packet.truncate(length);
        }
        (packet, self.line.sequence)
    }

    fn send(&self, packet: &[u8], to: SocketAddr) {
        self.line.socket.send_to(packet, to).unwrap();
    }

    fn say(&mut self, step: u16, to: SocketAddr) -> u16 {
        let (packet, number) = self.packet(step);
        self.send(&packet, to);
        number
    }

    fn hear(&mut self) -> Option<Heard> {
        self.hear_for(PATIENCE)
    }

    fn hear_for(&mut self, time: Duration) -> Option<Heard> {
        let mut packet = [0; 2048];
        let (mut length, source) = self.line.receive(&mut packet, time)?;
        if let Some((_, back)) = &mut self.contexts {
            let sealed = &mut packet[..length];
            length = back.unprotect(sealed).expect("what came is authentic");
        }
        Some(Heard::read(&packet[..length], source))
    }

    /// What libsrtp counted of what came with `ssrc`.
    fn roc(&mut self, ssrc: u32) -> u32 {
        let contexts = self.contexts.as_mut().unwrap();
        contexts.1.roc(ssrc).unwrap()
    }
}

/// A call between two telephones, described and connected.
struct Call {
    bench: Bench,
    phones: [Phone; 2],
    media: CallMedia,
}

impl Call {
    fn new(family: Family, keys: [Option<SrtpKeys>; 2]) -> Self {
        let mut bench = Bench::new(XdpMode::Native);
        let (first, second, mut media) = bench.call(family);
        let phones = [
            Phone::new(first, keys[0].as_ref()),
            Phone::new(second, keys[1].as_ref()),
        ];
        for (leg, keys) in media.legs.iter_mut().zip(keys) {
            leg.srtp = keys;
        }
        let mut call = Self {
            bench,
            phones,
            media,
        };
        call.connect([Path::Xdp; 2]);
        call
    }

    fn connect(&mut self, paths: [Path; 2]) {
        let state = self.bench.relay.snapshot().srtp;
        assert_eq!(self.bench.connect(&self.media), paths, "{state:?}");
    }

    fn port(&self, direction: usize) -> SocketAddr {
        self.media.legs[direction].port.rtp
    }

    /// One packet in a direction, which must be heard.
    fn talk(&mut self, direction: usize, step: u16) -> Heard {
        let to = self.port(direction);
        let number = self.phones[direction].say(step, to);
        let heard = self.phones[1 - direction].hear();
        let heard = heard.unwrap_or_else(|| panic!("{:?}", self.bench.statistics()));
        assert_eq!(heard.number, number);
        heard
    }

    /// Talks in a direction until the kernel relays it.
    fn until_kernel(&mut self, direction: usize) -> Vec<Heard> {
        let mut heard = Vec::new();
        let before = self.bench.statistics()[direction].packets_xdp;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            heard.push(self.talk(direction, 1));
            if self.bench.statistics()[direction].packets_xdp > before {
                return heard;
            }
        }
        let snapshot = self.bench.relay.snapshot();
        panic!("{:?} {snapshot:?}", self.bench.statistics());
    }

    /// Packets in a direction that the kernel alone relays.
    fn by_kernel(&mut self, direction: usize, packets: u64, step: u16) -> Vec<Heard> {
        let before = self.bench.statistics()[direction];
        let heard = (0..packets).map(|_| self.talk(direction, step)).collect();
        let after = self.bench.statistics()[direction];
        assert_eq!(after.packets_xdp, before.packets_xdp + packets);
        assert_eq!(after.packets_userspace, before.packets_userspace);
        heard
    }

    /// Sends what must not be heard, and waits until it is counted.
    fn refused(&mut self, direction: usize, packet: &[u8]) {
        let before = self.bench.statistics()[direction].srtp_failures;
        let to = self.port(direction);
        self.phones[direction].send(packet, to);
        let silent = &self.phones[1 - direction].line;
        self.bench
            .wait(silent, |streams| streams[direction].srtp_failures > before);
    }

    fn failures(&self) -> u64 {
        let refused = self.bench.relay.snapshot().srtp_failures;
        refused.iter().map(|(.., packets)| packets).sum()
    }
}

#[test]
fn the_kernel_protects_and_unprotects() {
    let mut identified = keys(LONG, 9);
    identified.protect.mki = Some(vec![1, 2, 3]);
    identified.unprotect.mki = Some(vec![4; 128]);
    for (family, keys) in [
        (Family::V4, [None, Some(keys(LONG, 1))]),
        (Family::V6, [Some(keys(SHORT, 3)), None]),
        (Family::V4, [Some(keys(LONG, 5)), Some(keys(SHORT, 7))]),
        (Family::V6, [Some(identified), Some(keys(LONG, 11))]),
    ] {
        let secured = keys.iter().flatten().count() as u32;
        let mut call = Call::new(family, keys);
        for direction in [0, 1] {
            let mut heard = call.until_kernel(direction);
            heard.extend(call.by_kernel(direction, 100, 1));
            assert_continuous(&heard);
        }
        for direction in [0, 1] {
            call.by_kernel(direction, 10, 1);
        }
        let snapshot = call.bench.relay.snapshot();
        assert_eq!(snapshot.srtp.streams, 4 * secured / 2);
        assert_eq!(call.failures(), 0);
        call.bench.relay.disconnect(CALL);
    }
}

#[test]
fn the_rollover_counter_turns_in_the_kernel() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    for direction in [0, 1] {
        call.until_kernel(direction);
    }
    // 700 packets in steps of 300 are three turns of the sequence numbers.
    let heard = call.by_kernel(0, 700, 300);
    let ssrc = heard[0].ssrc;
    assert!(call.phones[1].roc(ssrc) >= 3);
    call.by_kernel(1, 700, 300);
    // A worker that has the next packet goes on where the kernel is, and the other way round.
    for stream in &mut call.media.streams {
        stream
            .payload_types
            .extend((102..110).map(|one| (one, one)));
    }
    call.connect([Path::Userspace(PathReason::PayloadTypes); 2]);
    for direction in [0, 1] {
        for _ in 0..250 {
            call.talk(direction, 300);
        }
    }
    for stream in &mut call.media.streams {
        stream.payload_types.truncate(1);
    }
    call.connect([Path::Xdp; 2]);
    for direction in [0, 1] {
        call.by_kernel(direction, 250, 300);
    }
    assert!(call.phones[1].roc(ssrc) >= 5);
    assert_eq!(call.failures(), 0);
}

#[test]
fn what_came_by_one_path_is_replayed_on_none() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    call.until_kernel(1);
    let to = call.port(1);
    let mut recorded = Vec::new();
    let mut move_to = |call: &mut Call, types: usize, path: Path| {
        call.media.streams[1].payload_types =
            (0..types).map(|one| (one as u8, one as u8)).collect();
        call.connect([Path::Xdp, path]);
        for _ in 0..10 {
            let (packet, _) = call.phones[1].packet(1);
            call.phones[1].send(&packet, to);
            assert!(call.phones[0].hear().is_some());
            recorded.push(packet);
        }
        for packet in &recorded {
            call.refused(1, packet);
        }
    };
    move_to(&mut call, 1, Path::Xdp);
    move_to(&mut call, 9, Path::Userspace(PathReason::PayloadTypes));
    move_to(&mut call, 1, Path::Xdp);
}

#[test]
fn a_leg_that_comes_to_speak_in_the_clear_stays_the_kernels() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    for direction in [0, 1] {
        call.until_kernel(direction);
    }
    call.media.legs[1].srtp = None;
    call.connect([Path::Xdp; 2]);
    call.phones[1].rekey(None);
    for direction in [0, 1] {
        call.until_kernel(direction);
    }
}

#[test]
fn a_reinvite_with_the_same_keys_goes_on_and_one_with_new_keys_begins_anew() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    for direction in [0, 1] {
        call.until_kernel(direction);
        call.by_kernel(direction, 400, 200);
    }
    let ssrc = call.talk(0, 1).ssrc;
    let turns = call.phones[1].roc(ssrc);
    assert!(turns >= 1);

    call.media.legs[1].negotiation += 1;
    call.connect([Path::Xdp; 2]);
    for direction in [0, 1] {
        call.by_kernel(direction, 50, 1);
    }
    assert_eq!(call.phones[1].roc(ssrc), turns);

    let (recorded, _) = call.phones[1].packet(1);
    let before = call.media.legs[1].srtp.replace(keys(LONG, 7));
    call.media.legs[1].negotiation += 1;
    call.connect([Path::Xdp; 2]);
    let contexts = call.phones[1].contexts.take();
    call.phones[1].rekey(call.media.legs[1].srtp.clone().as_ref());
    call.refused(1, &recorded);
    for direction in [0, 1] {
        call.talk(direction, 1);
        call.until_kernel(direction);
        call.by_kernel(direction, 50, 1);
    }
    let other = call.talk(0, 1).ssrc;
    assert_eq!(call.phones[1].roc(other), 0);
    assert_eq!(call.bench.relay.snapshot().srtp.capacity, 16);

    // The keys of before, to a telephone that has forgotten them meanwhile, and to one that has not
    // and goes on in its later turn. Nothing leaves with an SSRC that they were used for.
    let mut used = vec![ssrc, other];
    for contexts in [None, contexts] {
        let last = call.media.legs[1].srtp.clone();
        call.media.legs[1].srtp = before.clone();
        call.media.legs[1].negotiation += 1;
        call.connect([Path::Xdp; 2]);
        call.phones[1].rekey(before.as_ref());
        if let Some(contexts) = contexts {
            call.phones[1].contexts = Some(contexts);
        }
        for direction in [0, 1] {
            call.talk(direction, 1);
            call.until_kernel(direction);
            call.by_kernel(direction, 50, 1);
        }
        let ssrc = call.talk(0, 1).ssrc;
        assert!(!used.contains(&ssrc));
        used.push(ssrc);
        assert_eq!(call.phones[1].roc(ssrc), 0);
        // Another key again.
        call.media.legs[1].srtp = last;
        call.connect([Path::Xdp; 2]);
    }
}

/// As where a transfer joins a leg of one call with a leg of another.
#[test]
fn a_leg_that_another_call_had_is_heard_in_its_later_turn() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    for direction in [0, 1] {
        call.until_kernel(direction);
        call.by_kernel(direction, 400, 300);
    }
    call.bench.relay.disconnect(CALL);
    call.connect([Path::Xdp; 2]);
    for direction in [1, 0] {
        call.talk(direction, 1);
        call.until_kernel(direction);
        call.by_kernel(direction, 250, 300);
    }
}

#[test]
fn a_new_ssrc_has_its_own_rollover_counter_and_old_ones_are_not_replayed() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    let to = call.port(1);
    let mut recorded = Vec::new();
    for ssrc in [1, 2, 3] {
        call.phones[1].line.ssrc = ssrc;
        let (packet, _) = call.phones[1].packet(1);
        call.phones[1].send(&packet, to);
        assert!(call.phones[0].hear().is_some());
        recorded.push(packet);
        call.until_kernel(1);
        call.by_kernel(1, 250, 300);
        for packet in &recorded {
            call.refused(1, packet);
        }
        call.by_kernel(1, 10, 1);
    }
}

#[test]
fn a_hold_over_a_turn_of_the_sequence_numbers_is_no_gap() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    let mut before = [0, 1].map(|direction| *call.until_kernel(direction).last().unwrap());
    for stream in &mut call.media.streams {
        stream.active = false;
    }
    call.connect([Path::Xdp; 2]);
    for _ in 0..300 {
        for direction in [0, 1] {
            let to = call.port(direction);
            call.phones[direction].say(300, to);
        }
    }
    let silent = &call.phones[0].line;
    call.bench.wait(silent, |streams| {
        streams.iter().all(|one| one.dropped >= 300)
    });
    for stream in &mut call.media.streams {
        stream.active = true;
    }
    call.connect([Path::Xdp; 2]);
    for direction in [0, 1] {
        let heard = call.until_kernel(direction);
        assert_continuous(&[before[direction], heard[0]]);
        before[direction] = *heard.last().unwrap();
        call.by_kernel(direction, 20, 1);
    }
    assert_eq!(call.failures(), 0);
}

#[test]
fn a_caller_that_begins_anew_is_heard_from_its_second_packet_on() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    let last = *call.until_kernel(0).last().unwrap();
    let last = call.by_kernel(0, 200, 1).last().copied().unwrap_or(last);
    call.phones[0].line.sequence = call.phones[0].line.sequence.wrapping_sub(20_000);
    let to = call.port(0);
    call.phones[0].say(1, to);
    let next = call.talk(0, 1);
    assert_continuous(&[last, next]);
    call.until_kernel(0);
    call.by_kernel(0, 50, 1);
}

#[test]
fn without_the_offload_libsrtp_serves_the_same_call() {
    let network = Bench::network();
    let config = RelayConfig {
        srtp_offload: false,
        ..Bench::config(XdpMode::Native)
    };
    let relay = network.0.enter(|| start(&config));
    let (ours, carrier, centre) = network;
    let mut bench = Bench {
        ours,
        carrier,
        centre,
        relay,
    };
    let (first, second, mut media) = bench.call(Family::V4);
    let keys = keys(LONG, 1);
    let phones = [Phone::new(first, None), Phone::new(second, Some(&keys))];
    media.legs[1].srtp = Some(keys);
    let mut call = Call {
        bench,
        phones,
        media,
    };
    call.connect([Path::Userspace(PathReason::SrtpOff); 2]);
    for direction in [0, 1] {
        for _ in 0..20 {
            call.talk(direction, 1);
        }
    }
    let snapshot = call.bench.relay.snapshot();
    assert_eq!((snapshot.srtp.streams, snapshot.srtp.capacity), (0, 0));
    assert_eq!(snapshot.srtp.why, "off in the configuration");
}

/// Bad packets for each good one, and good ones, of each direction.
const BAD: usize = 100;
const GOOD: usize = 3_000;

/// Numbers that a telephone hears, until there are `all` or nothing comes any more. Each must be
/// whole, and there must be none twice.
fn listen(mut phone: Phone, all: usize) -> (Phone, BTreeSet<u16>) {
    let mut heard = BTreeSet::new();
    while heard.len() < all {
        let Some(one) = phone.hear() else { break };
        assert!(heard.insert(one.number), "{} again", one.number);
    }
    (phone, heard)
}

/// Gives a socket room for all that comes while its reader has no processor.
fn widen(socket: &UdpSocket) {
    let octets: libc::c_int = 16 << 20;
    // SAFETY: the option is an integer that lives over the call, and its length is said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const octets).cast(),
            size_of_val(&octets) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn an_attack_is_refused_and_the_call_goes_on() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    for direction in [0, 1] {
        call.until_kernel(direction);
    }
    let [near, far] = [call.port(0), call.port(1)];
    let before = call.bench.statistics();
    // What comes from the attacker comes from the pinned peer's own address and port.
    let attacker = call.phones[1].line.socket.try_clone().unwrap();
    let mut stranger = Outbound::new(&key(LONG, 77)).unwrap();
    let speakers = call.phones.each_ref().map(|phone| {
        widen(&phone.line.socket);
        let line = Telephone {
            socket: phone.line.socket.try_clone().unwrap(),
            ..phone.line
        };
        Phone::new(line, None)
    });
    let [mut first, mut second] = speakers;
    let listeners = call.phones;
    let [caller, mut callee] = listeners;
    // The sending half of the callee's keys stays here, the receiving half goes.
    let (out, back) = callee.contexts.take().unwrap();
    second.contexts = Some((out, Inbound::new(&key(LONG, 1)).unwrap()));
    callee.contexts = Some((Outbound::new(&key(LONG, 2)).unwrap(), back));
    let listening = [caller, callee].map(|phone| std::thread::spawn(|| listen(phone, GOOD)));

    let mut recorded: Vec<Vec<u8>> = Vec::new();
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let began = Instant::now();
    for number in 0..GOOD as u32 {
        // A thousand good ones a second, and so a hundred thousand bad ones.
        while began.elapsed() < Duration::from_millis(1) * number {
            std::hint::spin_loop();
        }
        let (good, sequence) = second.packet(1);
        let mut plain = vec![0x80, 0];
        plain.extend(sequence.to_be_bytes());
        plain.extend([0; 4]);
        plain.extend(second.line.ssrc.to_be_bytes());
        plain.resize(172, 0xd5);
        let mut foreign = plain.clone();
        foreign.resize(172 + TRAILER, 0);
        let length = stranger.protect(&mut foreign, 172).unwrap();
        foreign.truncate(length);
        for kind in 0..BAD {
            let mut bad = match kind % 4 {
                0 if !recorded.is_empty() => recorded[random(recorded.len())].clone(),
                1 => plain.clone(),
                2 => foreign.clone(),
                _ => good.clone(),
            };
            if kind % 4 == 3 {
                let bit = random(8 * bad.len());
                bad[bit / 8] ^= 1 << (bit % 8);
            } else if kind % 4 == 0 && recorded.is_empty() {
                bad[20] ^= 1;
            }
            attacker.send_to(&bad, far).unwrap();
        }
        second.send(&good, far);
        first.say(1, near);
        recorded.push(good);
    }
    let took = began.elapsed();
    let heard = listening.map(|thread| thread.join().unwrap().1.len());
    let after = call.bench.statistics();
    let snapshot = call.bench.relay.snapshot();
    println!(
        "{} bad packets in {took:?}, of {GOOD} good ones heard {heard:?}; refused {:?}; {} lost on \
         the way to the workers",
        GOOD * BAD,
        snapshot.srtp_failures,
        snapshot.socket_overflows
    );
    for (direction, heard) in [(1, heard[0]), (0, heard[1])] {
        assert!(heard * 1000 > GOOD * 999, "direction {direction}: {heard}");
        let relayed = |streams: &[StreamStatistics; 2]| {
            streams[direction].packets_xdp + streams[direction].packets_userspace
        };
        let relayed = relayed(&after) - relayed(&before);
        assert!(relayed <= GOOD as u64, "direction {direction}: {relayed}");
    }
    for reason in ["authentication", "replay", "old-index"] {
        let refused = snapshot.srtp_failures.iter();
        let refused = refused.filter(|(path, name, _)| *path == "xdp" && *name == reason);
        let refused: u64 = refused.map(|(.., packets)| packets).sum();
        assert!(refused > GOOD as u64, "{reason}: {refused}");
    }
    // Who forges a call's media raises its alarm, and that ends with it.
    let end = Instant::now() + PATIENCE;
    let mut alarms = BTreeSet::new();
    while alarms.len() < 2 && Instant::now() < end {
        let alarm = call.bench.statistics()[1].srtp_alarm;
        if alarm || !alarms.is_empty() {
            alarms.insert(alarm);
        }
        std::thread::yield_now();
    }
    assert_eq!(alarms.len(), 2, "an alarm is raised and falls: {alarms:?}");
    assert!(!call.bench.statistics()[0].srtp_alarm);
}
