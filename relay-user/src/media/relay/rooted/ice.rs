//! A leg with ICE: what was nominated is carried by the XDP program, both ways.

use super::*;
use crate::{
    media::{IceCredentials, IceMedia},
    stun::{Attribute, BINDING, Builder, Class, Message},
};

const PASSWORD: &str = "0123456789abcdefghijklmn";

fn ice(own: &str) -> IceMedia {
    IceMedia {
        own: IceCredentials {
            fragment: own.into(),
            password: PASSWORD.to_owned().into(),
        },
        before: None,
        fragment: "theirs".into(),
        chosen: None,
        known: None,
    }
}

impl Telephone {
    /// Checks, and whether the answer is good.
    fn checks(&self, to: SocketAddr, own: &str, nominates: bool, password: &str) -> bool {
        let mut buffer = [0; 256];
        let transaction = rand::random();
        let mut builder = Builder::new(&mut buffer, BINDING, Class::Request, &transaction);
        builder.attribute(Attribute::USERNAME, format!("{own}:theirs").as_bytes());
        builder.attribute(Attribute::PRIORITY, &[0x6e, 0, 0x1e, 0xff]);
        builder.attribute(Attribute::ICE_CONTROLLING, &[7; 8]);
        if nominates {
            builder.attribute(Attribute::USE_CANDIDATE, &[]);
        }
        builder.integrity(password.as_bytes());
        builder.fingerprint();
        let length = builder.finish().unwrap();
        self.socket.send_to(&buffer[..length], to).unwrap();
        let mut answer = [0; 256];
        let received = self.receive(&mut answer, PATIENCE);
        let (length, source) = received.expect("no answer at all");
        assert_eq!(source, to);
        let answer = Message::parse(&answer[..length]).unwrap();
        assert_eq!(answer.transaction(), &transaction);
        answer.class() == Class::Success && answer.is_by(PASSWORD.as_bytes())
    }
}

#[test]
fn the_xdp_program_carries_the_nominated_pair_and_nobody_else() {
    for family in [Family::V4, Family::V6] {
        let mut bench = Bench::new(XdpMode::Native);
        let (mut first, mut second, mut media) = bench.call(family);
        media.legs[1].ice = Some(Box::new(ice("ours")));
        media.legs[1].sources.allowed.clear();
        bench.connect(&media);
        let [near, far] = media.legs.each_ref().map(|leg| leg.port.rtp);
        // The address in its SDP counts for nothing before it has checked.
        second.say(far);
        first.say(near);
        assert!(!second.checks(far, "ours", true, "wrong"));
        assert!(!second.checks(far, "wrong", true, PASSWORD));
        assert_eq!(first.hear_for(Duration::from_millis(100)), None);
        assert_eq!(second.hear_for(Duration::from_millis(100)), None);

        let host = match family {
            Family::V4 => "10.82.0.66:7100",
            Family::V6 => "[fd82::66]:7100",
        };
        let mut other = Telephone::new(&bench.centre, host, 0x3333_3333);
        assert!(other.checks(far, "ours", false, PASSWORD));
        assert!(second.checks(far, "ours", false, PASSWORD));
        assert!(second.checks(far, "ours", true, PASSWORD));
        // Towards the nominated one by XDP, although it has not said a word.
        bench.talk_until_xdp(0, &mut first, &mut second, near);
        bench.talk_until_xdp(1, &mut second, &mut first, far);
        let before = bench.statistics();
        for _ in 0..50 {
            first.say(near);
            assert!(second.hear().is_some());
            second.say(far);
            assert!(first.hear().is_some());
        }
        let after = bench.statistics();
        for direction in [0, 1] {
            let carried = after[direction].packets_xdp - before[direction].packets_xdp;
            assert_eq!(carried, 50, "direction {direction}");
        }
        assert_eq!(after[1].peer, Some(second.address()));
        // The kernel drops what the other pair sends, and its checks are still answered.
        other.say(far);
        assert_eq!(first.hear_for(Duration::from_millis(100)), None);
        assert!(other.checks(far, "ours", false, PASSWORD));

        // What was sent is counted a moment later.
        let counts = || {
            let snapshot = bench.relay.snapshot();
            let mut discarded = snapshot.workers_discarded.iter();
            let refused = discarded.find(|(discard, _)| discard.name() == "stun-refused");
            let refused = refused.map_or(0, |(_, counters)| counters.packets);
            [snapshot.workers_answered.packets, refused]
        };
        let end = Instant::now() + PATIENCE;
        while counts() != [4, 2] {
            assert!(Instant::now() < end, "{:?}", counts());
        }

        // A restart: the old pair goes on, by XDP, until the new nomination.
        let mut again = media.clone();
        again.legs[1].ice = Some(Box::new(IceMedia {
            before: Some(ice("ours").own),
            ..ice("anew")
        }));
        bench.connect(&again);
        let before = bench.statistics();
        for _ in 0..20 {
            second.say(far);
            assert!(first.hear().is_some());
        }
        assert_eq!(
            bench.statistics()[1].packets_xdp - before[1].packets_xdp,
            20
        );
        assert!(other.checks(far, "anew", true, PASSWORD));
        // Until the program's entry is written it takes the old pair alone.
        bench.wait(&first, |streams| streams[1].peer == Some(other.address()));
        other.ssrc = second.ssrc;
        other.sequence = second.sequence;
        bench.talk_until(&mut other, &mut first, far, |streams| {
            streams[1].packets_xdp > after[1].packets_xdp + 30
        });
        bench.talk_until(&mut first, &mut other, near, |streams| {
            streams[0].packets_xdp > after[0].packets_xdp
        });
        second.say(far);
        assert_eq!(first.hear_for(Duration::from_millis(100)), None);
    }
}
