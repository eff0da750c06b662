//! Media bypass: what the media plane is told of Teams' ICE, call by call.

use bytes::Bytes;
use relay_user::media::{IceMedia, LegMedia, MediaPlane as _};

use super::bench::*;
use crate::sip::{HeaderName, Method, Request, Response};

fn bench() -> Bench {
    Bench::teams("ice = \"lite\"")
}

/// Teams' description by one of its endpoints.
fn teams(port: u16, fragment: &str) -> Bytes {
    sdp(
        CENTRE,
        port,
        &format!(
            "a=rtcp-mux\r\na=ice-ufrag:{fragment}\r\na=ice-pwd:passwordof/{fragment}+long+enough\r\n"
        ),
    )
}

fn value<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let lines = body.lines().filter_map(|line| line.strip_prefix("a="));
    lines
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .next()
}

fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).unwrap()
}

fn leg(bench: &Bench, number: usize) -> LegMedia {
    let calls = bench.media.calls();
    let (_, call) = calls.iter().next().unwrap();
    call.legs[number].clone()
}

fn ice(bench: &Bench) -> IceMedia {
    *leg(bench, 1).ice.unwrap()
}

/// The carrier calls; the INVITE that Teams gets.
fn called(bench: &mut Bench) -> (Phone, Request) {
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    (caller, invite)
}

/// A call that Teams has answered with ICE.
fn up() -> (Bench, Phone, Phone) {
    let mut bench = bench();
    let (mut caller, invite) = called(&mut bench);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 200, &teams(5000, "one1")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());
    (bench, caller, callee)
}

#[test]
fn of_several_forks_the_media_plane_is_told_whose_sdp_holds() {
    let mut bench = bench();
    let (mut caller, invite) = called(&mut bench);
    let offer = text(&invite.body);
    assert!(offer.contains("a=ice-lite\r\n"));
    let ours = value(offer, "ice-ufrag").unwrap().to_owned();
    for fork in ["one1", "two2", "three3"] {
        let phone = Phone::callee(CENTRE, &invite, fork);
        bench.give(CENTRE, phone.answer(&invite, 183, &teams(5000, fork)));
        let progress = bench.response(CARRIER, 183);
        assert!(!text(&progress.body).contains("ice"));
        assert_eq!(&*ice(&bench).fragment, fork);
        assert_eq!(*ice(&bench).own.fragment, ours);
        assert_eq!(leg(&bench, 0).ice, None);
    }
    let winner = Phone::callee(CENTRE, &invite, "two2");
    bench.give(CENTRE, winner.answer(&invite, 200, &teams(5000, "two2")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());
    assert_eq!(&*ice(&bench).fragment, "two2");
    assert_eq!(*ice(&bench).own.fragment, ours);
    assert_eq!(ice(&bench).before, None);
    // No password of anybody's is in what operators are told.
    let told = format!("{:?} {:?}", bench.core.calls(), bench.events);
    assert!(!told.contains(&*ice(&bench).own.password) && !told.contains("passwordof"));
}

#[test]
fn early_and_final_answers_of_ours_say_the_same_to_teams() {
    let mut bench = bench();
    let mut caller = Phone::caller(CENTRE, "+4412345");
    let invite = bench.carry(CENTRE, caller.invite(&teams(5000, "one1")), CARRIER);
    assert!(!text(&invite.body).contains("ice"));
    let callee = Phone::callee(CARRIER, &invite, "b1");
    let mut said = Vec::new();
    for status in [183, 183, 200] {
        bench.give(
            CARRIER,
            callee.answer(&invite, status, &sdp(CARRIER, 4000, "")),
        );
        if status == 200 {
            bench.request(CARRIER, Method::Ack);
        }
        let response: Response = bench.response(CENTRE, status);
        let body = text(&response.body).to_owned();
        assert!(body.contains("a=ice-lite\r\n"));
        said.push(
            ["ice-ufrag", "ice-pwd", "candidate"]
                .map(|name| value(&body, name).unwrap().to_owned()),
        );
    }
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]));
    let leg = leg(&bench, 0);
    let ice = leg.ice.unwrap();
    assert_eq!(&*ice.fragment, "one1");
    assert_eq!(
        [&*ice.own.fragment, ice.own.password.as_str()],
        [&*said[0][0], &*said[0][1]]
    );
    let candidate = format!(
        "1 1 UDP 2130706431 192.0.2.1 {} typ host",
        leg.port.rtp.port()
    );
    assert_eq!(said[0][2], candidate);
}

#[test]
fn a_restart_by_teams_and_one_that_the_carrier_refuses() {
    let (mut bench, _caller, mut callee) = up();
    let before = ice(&bench);
    for (status, restarts) in [(488, false), (200, true)] {
        let onward = bench.carry(CENTRE, callee.invite(&teams(5000, "two2")), CARRIER);
        let carrier = Phone::callee(CARRIER, &onward, "a1");
        let body = match status {
            200 => sdp(CARRIER, 4000, ""),
            _ => Bytes::new(),
        };
        bench.give(CARRIER, carrier.answer(&onward, status, &body));
        bench.request(CARRIER, Method::Ack);
        let told = bench.response(CENTRE, status);
        bench.give(CENTRE, callee.ack());
        let now = ice(&bench);
        if !restarts {
            assert_eq!(now, before);
            continue;
        }
        assert_eq!(now.before.as_ref(), Some(&before.own));
        assert_ne!(now.own.fragment, before.own.fragment);
        assert_ne!(now.own.password, before.own.password);
        assert_eq!(&*now.fragment, "two2");
        assert_eq!(
            value(text(&told.body), "ice-ufrag"),
            Some(&*now.own.fragment)
        );
    }
}

#[test]
fn a_re_invite_of_the_carrier_is_no_restart_towards_teams() {
    let (mut bench, mut caller, callee) = up();
    let before = ice(&bench);
    let onward = bench.carry(
        CARRIER,
        caller.invite(&sdp(CARRIER, 4002, "a=sendonly\r\n")),
        CENTRE,
    );
    let offer = text(&onward.body);
    assert_eq!(value(offer, "ice-ufrag"), Some(&*before.own.fragment));
    assert_eq!(value(offer, "ice-pwd"), Some(before.own.password.as_str()));
    bench.give(CENTRE, callee.answer(&onward, 200, &teams(5000, "one1")));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 200);
    assert_eq!(ice(&bench), before);
}

/// A call of Teams' from where a header says; our media address towards it, and towards the carrier.
fn addresses(bench: &mut Bench, location: Option<&str>) -> [String; 2] {
    let mut caller = Phone::caller(CENTRE, "+4412345");
    let mut invite = caller.invite(&sdp(CENTRE, 5000, ""));
    if let Some(location) = location {
        invite.headers.push("X-MS-UserLocation", location);
    }
    let invite = bench.carry(CENTRE, invite, CARRIER);
    let callee = Phone::callee(CARRIER, &invite, "b1");
    let ok = bench.answer_call(&mut caller, &callee, &invite, 4000);
    let told = [0, 1].map(|number| leg(bench, number).port.rtp.ip().to_string());
    assert!(text(&ok.body).contains(&format!("c=IN IP4 {}\r\n", told[0])));
    bench.give(CENTRE, caller.request(Method::Bye));
    bench.response(CENTRE, 200);
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, callee.answer(&bye, 200, &Bytes::new()));
    bench.finished();
    told
}

#[test]
fn the_media_address_follows_where_the_user_is() {
    let settings = |keys: &str| {
        SETTINGS
            .replace(
                "[\"192.0.2.1\"]",
                "[\"192.0.2.1\", \"192.0.2.9\", \"192.0.2.17\"]",
            )
            .replace(
                "listen = \"192.0.2.1:5060\"",
                &format!("listen = \"192.0.2.1:5060\"\n{keys}"),
            )
    };
    let inside = "internal_address = \"192.0.2.9\"";
    let both = "internal_address = \"192.0.2.9\"\nexternal_address = \"192.0.2.17\"";
    for (keys, location, address) in [
        ("", Some("internal"), "192.0.2.1"),
        (inside, Some("internal"), "192.0.2.9"),
        (inside, Some("external"), "192.0.2.1"),
        // The values are case-sensitive.
        (inside, Some("Internal"), "192.0.2.1"),
        (inside, None, "192.0.2.1"),
        (both, Some("internal"), "192.0.2.9"),
        (both, Some("external"), "192.0.2.17"),
        (both, None, "192.0.2.17"),
    ] {
        let mut bench = Bench::with(&settings(keys));
        let told = addresses(&mut bench, location);
        assert_eq!(told, [address, "198.51.100.1"], "{keys} {location:?}");
    }
    // Who is called may be anywhere.
    let mut bench = Bench::with(&settings(both));
    let (_, invite) = called(&mut bench);
    assert!(text(&invite.body).contains("c=IN IP4 192.0.2.17\r\n"));
}

#[test]
fn the_media_address_follows_a_user_who_goes_elsewhere_in_mid_call() {
    let mut bench = Bench::with(&with_internal_address());
    let (mut caller, mut callee) = bring_up(&mut bench);
    // Who was called may be anywhere.
    assert_eq!(leg(&bench, 1).port.rtp.ip().to_string(), "192.0.2.1");
    for (location, accepted, address) in [
        (Some("internal"), 488, "192.0.2.1"),
        (Some("internal"), 200, "192.0.2.9"),
        (None, 200, "192.0.2.9"),
        (Some("internal"), 200, "192.0.2.9"),
        (Some("external"), 200, "192.0.2.1"),
    ] {
        let mut invite = callee.invite(&sdp(CENTRE, 5006, ""));
        if let Some(location) = location {
            invite.headers.push("X-MS-UserLocation", location);
        }
        let onward = bench.carry(CENTRE, invite, CARRIER);
        let body = match accepted {
            200 => sdp(CARRIER, 4000, ""),
            _ => Bytes::new(),
        };
        bench.give(CARRIER, caller.answer(&onward, accepted, &body));
        bench.request(CARRIER, Method::Ack);
        let told = bench.response(CENTRE, accepted);
        if accepted == 200 {
            bench.give(CENTRE, callee.ack());
            assert!(text(&told.body).contains(&format!("c=IN IP4 {address}\r\n")));
        }
        assert_eq!(leg(&bench, 1).port.rtp.ip().to_string(), address);
        assert_eq!(bench.media.reserved_ports(), 2, "{location:?} {accepted}");
    }
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &Bytes::new()));
    bench.finished();
}

#[test]
fn a_media_address_is_one_of_an_interface() {
    let settings = SETTINGS.replace(
        "listen = \"192.0.2.1:5060\"",
        "listen = \"192.0.2.1:5060\"\ninternal_address = \"192.0.2.9\"",
    );
    let error = crate::config::parse(&settings, std::path::Path::new("test.toml"));
    let problems = error.unwrap_err().problems;
    assert_eq!(problems[0].what, "192.0.2.9 is no media address");
}

#[test]
fn an_attended_transfer_takes_its_known_peer_along() {
    // The carrier's trunk is Teams here: both calls of the centre's lead there.
    let mut bench = Bench::keyed("ice = \"lite\"", "");
    let answer = |port, fragment: &str| {
        let text = text(&teams(port, fragment)).replace("192.0.2.2", "198.51.100.2");
        Bytes::from(text)
    };
    let begin = |bench: &mut Bench, call_id: &str, port: u16, fragment: &str| {
        let mut centre = Phone::caller(CENTRE, "+4412345").with_call_id(call_id);
        centre.local.set_tag(call_id);
        let invite = bench.carry(CENTRE, centre.invite(&sdp(CENTRE, 5000, "")), CARRIER);
        let phone = Phone::callee(CARRIER, &invite, fragment);
        bench.give(CARRIER, phone.answer(&invite, 200, &answer(port, fragment)));
        bench.request(CARRIER, Method::Ack);
        let ok = bench.response(CENTRE, 200);
        centre.learn(&ok);
        bench.give(CENTRE, centre.ack());
        centre
    };
    let mut first = begin(&mut bench, "first", 4000, "one1");
    let second = begin(&mut bench, "second", 4200, "two2");
    let (id, call) = bench.media.calls().into_iter().next_back().unwrap();
    let own = call.legs[1].ice.as_ref().unwrap().own.clone();
    let peer = "198.51.100.77:50010".parse().unwrap();
    let mut statistics = bench.media.statistics(id).unwrap();
    statistics[1].peer = Some(peer);
    bench.media.set_statistics(id, statistics);

    let replaces = format!(
        "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
        second.call_id,
        second.remote.tag().unwrap(),
        second.local.tag().unwrap()
    );
    let refer = first.request(Method::Refer).with(
        HeaderName::ReferTo,
        format!("<sip:+4412345@192.0.2.1?Replaces={replaces}>"),
    );
    bench.give(CENTRE, refer);
    bench.response(CENTRE, 202);
    let calls = bench.media.calls();
    let (_, joined) = calls.into_iter().next().unwrap();
    let [one, other] = joined.legs.map(|leg| *leg.ice.unwrap());
    assert_eq!((&*one.fragment, one.known), ("two2", Some(peer)));
    assert_eq!(one.own, own);
    assert_eq!((&*other.fragment, other.known), ("one1", None));
}

#[test]
fn teams_without_ice_is_served_without() {
    let mut bench = bench();
    let (caller, callee) = bring_up(&mut bench);
    assert_eq!(leg(&bench, 1).ice, None);
    drop((caller, callee));
}
