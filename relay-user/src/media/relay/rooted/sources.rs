//! Who is heard: learning, pinning, holding, latching.

use super::*;

#[test]
fn workers_learn_and_the_xdp_program_carries_on() {
    for family in [Family::V4, Family::V6] {
        let mut bench = Bench::new(XdpMode::Native);
        for state in bench.relay.snapshot().interfaces {
            assert_eq!(state.mode, XdpMode::Native, "{}", state.why);
        }
        let (mut first, mut second, media) = bench.call(family);
        assert_eq!(bench.connect(&media), [Path::Xdp; 2]);
        let [near, far] = media.legs.each_ref().map(|leg| leg.port.rtp);

        let mut heard = bench.talk_until_xdp(0, &mut first, &mut second, near);
        assert!(bench.statistics()[0].packets_userspace > 0);
        let learning = bench.statistics()[0].packets_xdp;
        for _ in 0..100 {
            let number = first.say(near);
            let one = second.hear().expect("what was said is not heard");
            assert_eq!((one.number, one.source, one.payload_type), (number, far, 0));
            heard.push(one);
        }
        assert_continuous(&heard);
        assert_eq!(bench.statistics()[0].packets_xdp, learning + 100);

        // The other payload type is renumbered, and back only what was negotiated goes.
        first.say_as(101, near);
        assert_eq!(second.hear().unwrap().payload_type, 96);
        let heard = bench.talk_until_xdp(1, &mut second, &mut first, far);
        assert_continuous(&heard);
        assert_eq!(heard[0].source, near);
        second.say_as(8, far);
        bench.wait(&first, |[_, back]| back.dropped == 1);

        let [forth, back] = bench.statistics();
        assert_eq!((forth.lost, back.lost), (0, 0));
        assert_eq!(forth.peer, Some(first.address()));
        assert_eq!(back.state, StreamState::Flowing);
        let snapshot = bench.relay.snapshot();
        assert_eq!((snapshot.flows, snapshot.next_hops_unresolved), (2, 0));
        let relayed = snapshot.kernel[Reason::Relayed as usize].1.packets;
        assert_eq!(relayed, forth.packets_xdp + back.packets_xdp);

        bench.relay.disconnect(CALL);
        for leg in &media.legs {
            bench.relay.release(leg.port);
        }
        let snapshot = bench.relay.snapshot();
        assert_eq!((snapshot.flows, snapshot.next_hops), (0, 0));
        assert!(snapshot.ports.iter().all(|ports| ports.used == 0));
        assert_eq!(bench.relay.flows(), []);
        first.say(near);
        assert_eq!(second.hear_for(Duration::from_millis(50)), None);
    }
}

#[test]
fn nobody_else_is_heard_before_or_after_the_pin() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    media.legs[0].sources.allowed = vec!["10.81.0.2/32".parse().unwrap()];
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    let mut foreign = Telephone::new(&bench.carrier, "10.81.0.66:6000", 0x6666_6666);
    for _ in 0..10 {
        foreign.say(near);
    }
    bench.wait(&second, |[forth, _]| forth.dropped == 10);
    assert_eq!(bench.statistics()[0].peer, None);

    let heard = bench.talk_until_xdp(0, &mut first, &mut second, near);
    assert_continuous(&heard);
    let mut neighbour = Telephone::new(&bench.carrier, "10.81.0.2:6002", first.ssrc);
    for _ in 0..10 {
        foreign.say(near);
        neighbour.say(near);
    }
    bench.wait(&second, |[forth, _]| forth.dropped == 30);
    let number = first.say(near);
    assert_eq!(second.hear().unwrap().number, number);
    // The program counts a reason when it is done with the packet.
    bench.wait(&second, |_| {
        let snapshot = bench.relay.snapshot();
        snapshot.kernel[Reason::ForeignSource as usize].1.packets == 20
    });
    second.say(media.legs[1].port.rtp);
    assert!(first.hear().is_some());
    assert_eq!(foreign.hear_for(Duration::from_millis(10)), None);
}

#[test]
fn hold_lets_nothing_through_and_resume_goes_on() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    let mut heard = bench.talk_until_xdp(0, &mut first, &mut second, near);

    media.streams[0].active = false;
    bench.connect(&media);
    for _ in 0..5 {
        first.say(near);
    }
    bench.wait(&second, |[forth, _]| {
        forth.dropped == 5 && forth.state == StreamState::Held
    });

    media.streams[0].active = true;
    bench.connect(&media);
    let packets = bench.statistics()[0].packets_xdp;
    first.say(near);
    let resumed = second.hear().unwrap();
    assert_eq!(bench.statistics()[0].packets_xdp, packets + 1);
    let last = heard.pop().unwrap();
    assert_eq!(resumed.ssrc, last.ssrc);
    assert_eq!(resumed.sequence, last.sequence.wrapping_add(6));
    assert_eq!(bench.statistics()[0].peer, Some(first.address()));
}

#[test]
fn relatching_follows_the_telephone_after_a_new_offer_only() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    media.legs[0].sources.latching = Latching::RelatchOnReinvite;
    bench.connect(&media);
    let [near, far] = media.legs.each_ref().map(|leg| leg.port.rtp);
    let before = bench.talk_until_xdp(0, &mut first, &mut second, near);
    bench.talk_until_xdp(1, &mut second, &mut first, far);

    let mut moved = Telephone::new(&bench.carrier, "10.81.0.66:6100", 0x3333_3333);
    moved.say(near);
    bench.wait(&second, |[forth, _]| forth.dropped == 1);

    media.legs[0].negotiation += 1;
    bench.connect(&media);
    let packets = bench.statistics()[0].packets_xdp;
    let after = bench.talk_until(&mut moved, &mut second, near, |[forth, _]| {
        forth.packets_xdp > packets
    });
    assert_eq!(bench.statistics()[0].peer, Some(moved.address()));
    // The other leg hears the same source go on.
    let mut heard = vec![*before.last().unwrap()];
    heard.extend(after);
    assert_continuous(&heard);
    second.say(far);
    assert!(moved.hear().is_some(), "media goes to the new telephone");
    assert_eq!(first.hear_for(Duration::from_millis(10)), None);
}

#[test]
fn strictly_only_the_signalled_address_is_heard() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    media.legs[0].sources.latching = Latching::Strict;
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    let mut other = Telephone::new(&bench.carrier, "10.81.0.2:6002", first.ssrc);
    other.say(near);
    bench.wait(&second, |[forth, _]| forth.dropped == 1);
    assert_eq!(bench.statistics()[0].state, StreamState::Waiting);
    let mut heard = bench.talk_until_xdp(0, &mut first, &mut second, near);

    // SDP names another port of the same telephone, whose stream goes on.
    media.legs[0].remote = Some(RemoteMedia {
        rtp: other.address(),
        rtcp: other.address(),
    });
    media.legs[0].negotiation += 1;
    bench.connect(&media);
    let (ssrc, packets) = (heard[0].ssrc, bench.statistics()[0].packets_xdp);
    other.sequence = first.sequence;
    heard.extend(
        bench.talk_until(&mut other, &mut second, near, |[forth, _]| {
            forth.packets_xdp > packets
        }),
    );
    assert_eq!(heard.last().unwrap().ssrc, ssrc);
    assert_continuous(&heard);
    first.say(near);
    bench.wait(&second, |[forth, _]| forth.dropped == 2);
}
