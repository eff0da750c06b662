//! ICE, with Teams at B and us as the lite agent.

use relay_user::media::IceMedia;

use super::{super::*, fixtures::TEAMS_BYPASS, *};

const THEIRS: [&str; 4] = [
    "rtcp-mux",
    "ice-ufrag:aBcD",
    "ice-pwd:0123456789abcdefghijklmn",
    "candidate:1 1 UDP 2130706431 198.51.100.2 4000 typ host",
];

fn call() -> Negotiation {
    let teams = LegPolicy {
        ice: true,
        ..policy(LOCAL_B, SrtpPolicy::Off)
    };
    Negotiation::new([policy(LOCAL_A, SrtpPolicy::Off), teams], &mut random())
}

fn theirs(change: &[(&str, &str)], more: &[&str]) -> String {
    let mut body = plain_sdp("0", &[&THEIRS, more].concat());
    for (from, to) in change {
        body = body.replace(from, to);
    }
    body
}

/// The values of an attribute.
fn values<'a>(body: &'a str, name: &str) -> Vec<&'a str> {
    let lines = body.lines().filter_map(|line| line.strip_prefix("a="));
    lines
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .collect()
}

fn credentials(body: &str) -> [String; 2] {
    let [fragment] = values(body, "ice-ufrag")[..] else {
        panic!("{body}")
    };
    let [password] = values(body, "ice-pwd")[..] else {
        panic!("{body}")
    };
    [fragment.to_owned(), password.to_owned()]
}

fn ice(call: &Negotiation) -> Option<IceMedia> {
    let [_, teams] = call.media().unwrap().legs;
    teams.ice.map(|ice| *ice)
}

/// Teams offers, the carrier answers as often as it likes; our answers.
fn offered(call: &mut Negotiation, offer: &str, answers: usize) -> Vec<String> {
    let onward = call
        .offer(Side::B, offer.as_bytes(), &mut random())
        .unwrap();
    assert!(!onward.contains("a=ice") && !onward.contains("a=candidate"));
    let answer = plain_sdp("0", &[]);
    let told = (0..answers)
        .map(|_| call.answer(Side::A, answer.as_bytes()).unwrap())
        .collect();
    call.commit().unwrap();
    told
}

#[test]
fn an_offer_with_ice_is_answered_by_a_lite_agent_with_one_candidate() {
    let mut call = call();
    let answers = offered(&mut call, &theirs(&[], &[]), 2);
    let answer = &answers[0];
    let (session, audio) = answer.split_once("m=audio").unwrap();
    assert!(session.contains("a=ice-lite\r\na=ice-options:ice2\r\n"));
    assert!(!audio.contains("a=ice-lite"));
    assert_eq!(
        values(answer, "candidate"),
        ["1 1 UDP 2130706431 203.0.113.1 21000 typ host"]
    );
    let [fragment, password] = credentials(answer);
    assert!(fragment.len() >= 4 && password.len() >= 22);
    // 183 and 200 say the same.
    assert_eq!(answers[0], answers[1]);
    let ice = ice(&call).unwrap();
    assert_eq!(&*ice.fragment, "aBcD");
    assert_eq!(&*ice.own.fragment, fragment);
    assert_eq!(*ice.own.password, password);
    assert_eq!((ice.before, ice.chosen), (None, None));
    assert_eq!(call.media().unwrap().legs[0].ice, None);
    assert!(!format!("{call:?}").contains(&password));
    assert!(!format!("{call:?}").contains("0123456789abcdefghijklmn"));
}

#[test]
fn without_a_shared_port_rtcp_has_a_candidate_too() {
    let mut call = call();
    let answers = offered(&mut call, &theirs(&[("a=rtcp-mux\r\n", "")], &[]), 1);
    assert_eq!(
        values(&answers[0], "candidate"),
        [
            "1 1 UDP 2130706431 203.0.113.1 21000 typ host",
            "1 2 UDP 2130706430 203.0.113.1 21001 typ host"
        ]
    );
}

#[test]
fn ice_is_neither_offered_nor_answered_where_it_is_off() {
    let mut call = negotiation(SrtpPolicy::Off, SrtpPolicy::Off);
    let answers = offered(&mut call, &theirs(&[], &[]), 1);
    assert!(!answers[0].contains("a=ice") && !answers[0].contains("a=candidate"));
    assert_eq!(ice(&call), None);
    let body = call.offer_again(Side::B, None, &mut random()).unwrap();
    assert!(!body.contains("a=ice") && !body.contains("a=candidate"));
}

#[test]
fn what_is_no_ice_or_another_lite_agent_is_answered_without() {
    for offer in [
        plain_sdp("0", &[]),
        theirs(&[("a=ice-ufrag:aBcD\r\n", "")], &[]),
        theirs(&[("aBcD", "aB")], &[]),
        theirs(&[("aBcD", "aB=D")], &[]),
        theirs(&[("0123456789abcdefghijklmn", "short")], &[]),
        theirs(&[("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n")], &[]),
    ] {
        let mut call = call();
        let answers = offered(&mut call, &offer, 1);
        assert!(!answers[0].contains("a=ice"), "{offer}");
        assert_eq!(ice(&call), None);
    }
}

#[test]
fn our_offer_has_ice_and_each_fork_that_answers_its_own() {
    let mut call = call();
    let offer = plain_sdp("0", &[]);
    let body = call
        .offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    assert!(body.contains("a=ice-lite\r\n"));
    assert_eq!(values(&body, "candidate").len(), 2);
    let ours = credentials(&body);
    for (fork, password) in [
        ("aBcD", "0123456789abcdefghijklmn"),
        ("eFgH", "9876543210abcdefghijklmn"),
    ] {
        let answer = theirs(
            &[("aBcD", fork), ("0123456789abcdefghijklmn", password)],
            &[],
        );
        let told = call.answer(Side::B, answer.as_bytes()).unwrap();
        assert!(!told.contains("a=ice"));
        let ice = ice(&call).unwrap();
        assert_eq!(&*ice.fragment, fork);
        assert_eq!(*ice.own.fragment, ours[0]);
        assert_eq!(ice.before, None);
    }
    call.commit().unwrap();
    // A later offer of ours is no restart.
    let again = call.offer_again(Side::B, None, &mut random()).unwrap();
    assert_eq!(credentials(&again), ours);
    assert_eq!(values(&again, "candidate").len(), 1);
}

#[test]
fn a_peer_that_answers_without_ice_keeps_to_that_until_it_offers_it() {
    let mut call = call();
    let offer = plain_sdp("0", &[]);
    call.offer(Side::A, offer.as_bytes(), &mut random())
        .unwrap();
    call.answer(Side::B, offer.as_bytes()).unwrap();
    call.commit().unwrap();
    assert_eq!(ice(&call), None);
    let again = call.offer_again(Side::B, None, &mut random()).unwrap();
    assert!(!again.contains("a=ice"));
    call.rollback();
    let answers = offered(&mut call, &theirs(&[], &[]), 1);
    assert!(answers[0].contains("a=ice-lite"));
    assert!(ice(&call).is_some());
}

#[test]
fn a_restart_by_the_peer_changes_our_credentials_and_a_refresh_does_not() {
    let mut call = call();
    let first = credentials(&offered(&mut call, &theirs(&[], &[]), 1)[0]);
    let refreshed = credentials(&offered(&mut call, &theirs(&[], &[]), 1)[0]);
    assert_eq!(first, refreshed);

    // One that fails leaves everything as it was.
    let restart = theirs(&[("aBcD", "nEwU"), ("0123456789", "abcdefghij")], &[]);
    call.offer(Side::B, restart.as_bytes(), &mut random())
        .unwrap();
    call.rollback();
    assert_eq!(*ice(&call).unwrap().own.fragment, first[0]);

    let mut other = StdRng::seed_from_u64(2);
    call.offer(Side::B, restart.as_bytes(), &mut other).unwrap();
    let answer = call
        .answer(Side::A, plain_sdp("0", &[]).as_bytes())
        .unwrap();
    call.commit().unwrap();
    let restarted = credentials(&answer);
    assert!(restarted[0] != first[0] && restarted[1] != first[1]);
    let now = ice(&call).unwrap();
    assert_eq!(*now.own.fragment, restarted[0]);
    let before = now.before.unwrap();
    assert_eq!(
        [&*before.fragment, before.password.as_str()],
        [&*first[0], &*first[1]]
    );
    assert_eq!(&*now.fragment, "nEwU");
    // What follows is none.
    assert_eq!(credentials(&offered(&mut call, &restart, 1)[0]), restarted);
}

#[test]
fn remote_candidates_that_name_our_candidate_say_which_pair_was_chosen() {
    for (named, chosen) in [
        ("remote-candidates:1 203.0.113.1 21000", true),
        (
            "remote-candidates:2 203.0.113.1 21001 1 203.0.113.1 21000",
            true,
        ),
        ("remote-candidates:1 198.51.100.2 4000", false),
        ("remote-candidates:1 203.0.113.1", false),
        ("remote-candidates:1 x y", false),
        ("remote-candidates:", false),
    ] {
        let mut call = call();
        offered(&mut call, &theirs(&[], &[named]), 1);
        let peer = ice(&call).unwrap().chosen;
        let address = "198.51.100.2:4000".parse().unwrap();
        assert_eq!(peer, chosen.then_some(address), "{named}");
    }
}

#[test]
fn a_new_peer_gets_credentials_of_its_own() {
    let mut call = call();
    let first = credentials(&offered(&mut call, &theirs(&[], &[]), 1)[0]);
    let teams = LegPolicy {
        ice: true,
        ..policy(LOCAL_B, SrtpPolicy::Off)
    };
    let mut other = StdRng::seed_from_u64(2);
    let mut moved = call.with_new_peer(Side::B, teams, &mut other);
    let offer = moved.offer_again(Side::B, None, &mut other).unwrap();
    assert_ne!(credentials(&offer), first);
    moved
        .take_answer(Side::B, theirs(&[], &[]).as_bytes())
        .unwrap();
    moved.commit().unwrap();
    assert_eq!(ice(&moved).unwrap().before, None);
}

#[test]
fn a_leg_that_joins_another_call_takes_its_ice_along() {
    let mut first = call();
    offered(&mut first, &theirs(&[], &[]), 1);
    let second = {
        let mut call = plain();
        offered(&mut call, &plain_sdp("0", &[]), 1);
        call
    };
    let mut joined = second.joined(Side::A, &first, Side::B);
    let peer = "203.0.113.77:50010".parse().unwrap();
    joined.locate(Side::B, Some(peer));
    let ice = ice(&joined).unwrap();
    assert_eq!(ice.known, Some(peer));
    assert_eq!(&*ice.fragment, "aBcD");
    // A refresh does not forget it.
    offered(&mut joined, &theirs(&[], &[]), 1);
    assert_eq!(self::ice(&joined).unwrap().known, Some(peer));
}

#[test]
fn teams_own_offer_is_taken() {
    let teams = LegPolicy {
        ice: true,
        ..policy(LOCAL_B, SrtpPolicy::Require)
    };
    let mut call = Negotiation::new([policy(LOCAL_A, SrtpPolicy::Off), teams], &mut random());
    let answers = offered(&mut call, TEAMS_BYPASS, 1);
    assert!(answers[0].contains("a=ice-lite\r\n") && answers[0].contains("a=crypto:1 "));
    assert_eq!(values(&answers[0], "candidate").len(), 1);
}
