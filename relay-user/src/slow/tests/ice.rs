//! A callee with ICE: who has checked is heard, and who was nominated alone.

use super::*;
use crate::{
    media::{IceCredentials, IceMedia},
    stun::{Attribute, BINDING, Builder, Class, Message},
};

/// Another address of the callee's, and somebody else.
const RELAYED: &str = "203.0.113.9:50000";
const STRANGER: &str = "203.0.113.66:40000";

fn credentials(fragment: &str) -> IceCredentials {
    IceCredentials {
        fragment: fragment.into(),
        password: format!("password-of-{fragment}-long-enough").into(),
    }
}

fn ice(own: &str, theirs: &str) -> IceMedia {
    IceMedia {
        own: credentials(own),
        before: None,
        fragment: theirs.into(),
        chosen: None,
        known: None,
    }
}

/// The flow from the callee, with ICE.
fn from_callee(ice: IceMedia) -> SlowFlow {
    SlowFlow {
        ice: Some(ice),
        ..callee_to_caller()
    }
}

fn lab() -> Lab {
    let mut towards = caller_to_callee();
    towards.entry.to = Default::default();
    towards.rtcp.to = Default::default();
    Lab::new([towards, from_callee(ice("ours", "theirs"))])
}

/// A check by our ufrag, with a priority.
fn check_by(own: &str, theirs: &str, priority: u32, nominates: bool, password: &str) -> Vec<u8> {
    let mut buffer = vec![0; 256];
    let mut builder = Builder::new(&mut buffer, BINDING, Class::Request, &[5; 12]);
    builder.attribute(Attribute::USERNAME, format!("{own}:{theirs}").as_bytes());
    builder.attribute(Attribute::PRIORITY, &priority.to_be_bytes());
    builder.attribute(Attribute::ICE_CONTROLLING, &[1; 8]);
    if nominates {
        builder.attribute(Attribute::USE_CANDIDATE, &[]);
    }
    builder.integrity(password.as_bytes());
    builder.fingerprint();
    let length = builder.finish().expect("room");
    buffer.truncate(length);
    buffer
}

fn check(own: &str, theirs: &str, priority: u32, nominates: bool) -> Vec<u8> {
    check_by(own, theirs, priority, nominates, &credentials(own).password)
}

/// Whether a check is answered well.
fn passes(lab: &mut Lab, from: &str, check: &[u8], own: &str) -> bool {
    let Ok(left) = lab.send(from, OURS_CALLEE, check) else {
        return false;
    };
    assert_eq!((left.from, left.to), (address(OURS_CALLEE), address(from)));
    let message = Message::parse(&left.payload).expect("a response");
    assert_eq!(message.transaction(), &[5; 12]);
    message.class() == Class::Success && message.is_by(credentials(own).password.as_bytes())
}

/// A check without nomination is answered well.
#[track_caller]
fn checked(lab: &mut Lab, from: &str, own: &str, theirs: &str, priority: u32) {
    assert!(passes(lab, from, &check(own, theirs, priority, false), own));
}

/// A check that nominates is answered well.
#[track_caller]
fn nominated(lab: &mut Lab, from: &str, own: &str, theirs: &str, priority: u32) {
    assert!(passes(lab, from, &check(own, theirs, priority, true), own));
}

/// Where a packet of the caller's goes.
fn heard_at(lab: &mut Lab, sequence: u16) -> Result<SocketAddr, Discard> {
    let packet = rtp(0, sequence, u32::from(sequence) * 160, 7);
    lab.send(CALLER, OURS_CALLER, &packet).map(|left| left.to)
}

/// Whether a packet from the callee's side passes.
fn speaks(lab: &mut Lab, from: &str, sequence: u16) -> Result<(), Discard> {
    let packet = rtp(0, sequence, u32::from(sequence) * 160, 9);
    lab.send(from, OURS_CALLEE, &packet).map(drop)
}

#[test]
fn nobody_is_heard_or_sent_to_before_a_check() {
    let mut lab = lab();
    assert_eq!(speaks(&mut lab, CALLEE, 1), Err(Discard::ForeignSource));
    assert_eq!(heard_at(&mut lab, 1), Err(Discard::NoDestination));
    checked(&mut lab, CALLEE, "ours", "theirs", 9);
    assert_eq!(heard_at(&mut lab, 2), Ok(address(CALLEE)));
    assert_eq!(speaks(&mut lab, STRANGER, 2), Err(Discard::ForeignSource));
    assert_eq!(speaks(&mut lab, CALLEE, 3), Ok(()));
}

#[test]
fn the_pair_of_highest_priority_is_used_until_somebody_streams_or_is_nominated() {
    let mut lab = lab();
    checked(&mut lab, RELAYED, "ours", "theirs", 5);
    assert_eq!(heard_at(&mut lab, 1), Ok(address(RELAYED)));
    checked(&mut lab, CALLEE, "ours", "theirs", 9);
    assert_eq!(heard_at(&mut lab, 2), Ok(address(CALLEE)));
    // Early media latches.
    assert_eq!(speaks(&mut lab, RELAYED, 1), Ok(()));
    assert_eq!(speaks(&mut lab, CALLEE, 2), Err(Discard::ForeignSource));
    assert_eq!(heard_at(&mut lab, 3), Ok(address(RELAYED)));
    // Nomination has the last word.
    nominated(&mut lab, CALLEE, "ours", "theirs", 9);
    assert_eq!(heard_at(&mut lab, 4), Ok(address(CALLEE)));
    assert_eq!(speaks(&mut lab, RELAYED, 3), Err(Discard::ForeignSource));
    assert_eq!(speaks(&mut lab, CALLEE, 4), Ok(()));
}

#[test]
fn a_nomination_is_told_before_and_after_the_media_has_begun() {
    let mut lab = lab();
    nominated(&mut lab, CALLEE, "ours", "theirs", 5);
    let Some(SlowEvent::Peer { key, entry }) = lab.event() else {
        panic!("nothing was told");
    };
    assert_eq!(key, at(OURS_CALLEE));
    assert!(entry.has(FlowEntry::PINNED) && !entry.has(FlowEntry::SSRC_KNOWN));
    assert_eq!(entry.peer, endpoint(address(CALLEE)));
    assert_eq!(speaks(&mut lab, CALLEE, 1), Ok(()));
    assert_eq!(lab.source().peer, endpoint(address(CALLEE)));
    // Another nomination, of higher priority; one of lower priority changes nothing.
    nominated(&mut lab, RELAYED, "ours", "theirs", 9);
    let moved = lab.source();
    assert_eq!(moved.peer, endpoint(address(RELAYED)));
    assert_eq!(moved.ssrc_in.get(), 9);
    nominated(&mut lab, CALLEE, "ours", "theirs", 5);
    assert_eq!(lab.event(), None);
    assert_eq!(speaks(&mut lab, RELAYED, 2), Ok(()));
    assert_eq!(lab.event(), None);
}

#[test]
fn wrong_credentials_move_nothing() {
    let mut lab = lab();
    for wrong in [
        check_by("ours", "theirs", 9, true, "another"),
        check_by("others", "theirs", 9, true, &credentials("ours").password),
    ] {
        let left = lab.send(STRANGER, OURS_CALLEE, &wrong).expect("a refusal");
        let message = Message::parse(&left.payload).expect("a response");
        assert_eq!(message.class(), Class::Error);
    }
    assert_eq!(lab.shared[1].read().flow.dropped, 2);
    assert_eq!(lab.event(), None);
    assert_eq!(heard_at(&mut lab, 1), Err(Discard::NoDestination));
    assert_eq!(speaks(&mut lab, STRANGER, 1), Err(Discard::ForeignSource));
    // An attacker's refusals are limited, and cost the peer none of its answers.
    let wrong = check_by("ours", "theirs", 9, true, "another");
    let refused = (0..50).filter(|_| lab.send(STRANGER, OURS_CALLEE, &wrong).is_ok());
    assert_eq!(refused.count(), 8);
    checked(&mut lab, CALLEE, "ours", "theirs", 9);
}

#[test]
fn checks_are_answered_so_many_a_second() {
    let mut lab = lab();
    let check = check("ours", "theirs", 9, false);
    let answered = (0..500).filter(|_| passes(&mut lab, CALLEE, &check, "ours"));
    assert_eq!(answered.count(), 100);
    let refused = lab.send(CALLEE, OURS_CALLEE, &check);
    assert_eq!(refused.err(), Some(Discard::StunRate));
    lab.elapse(1000);
    let answered = (0..500).filter(|_| passes(&mut lab, CALLEE, &check, "ours"));
    assert_eq!(answered.count(), 50);
}

#[test]
fn a_leg_without_ice_answers_nothing() {
    let mut lab = Lab::plain();
    let check = check("ours", "theirs", 9, true);
    for (from, to) in [(CALLER, OURS_CALLER), (CALLEE, OURS_CALLEE)] {
        assert_eq!(lab.send(from, to, &check).err(), Some(Discard::Stun));
    }
}

#[test]
fn checks_come_from_where_the_trunk_allows() {
    let mut lab = lab();
    let mut flow = from_callee(ice("ours", "theirs"));
    flow.sources.allowed = vec!["203.0.113.0/29".parse().expect("a range")];
    lab.install(1, flow);
    let check = check("ours", "theirs", 9, false);
    let refused = lab.send(STRANGER, OURS_CALLEE, &check);
    assert_eq!(refused.err(), Some(Discard::ForeignSource));
    assert!(passes(&mut lab, CALLEE, &check, "ours"));
}

#[test]
fn of_several_forks_the_one_whose_sdp_holds_is_heard() {
    let mut lab = lab();
    nominated(&mut lab, CALLEE, "ours", "theirs", 5);
    assert!(matches!(lab.event(), Some(SlowEvent::Peer { .. })));
    assert_eq!(speaks(&mut lab, CALLEE, 1), Ok(()));
    assert_eq!(lab.source().peer, endpoint(address(CALLEE)));
    // Another fork checks and nominates before its SDP comes.
    nominated(&mut lab, RELAYED, "ours", "forked", 9);
    assert_eq!(heard_at(&mut lab, 1), Ok(address(CALLEE)));
    assert_eq!(speaks(&mut lab, RELAYED, 2), Err(Discard::ForeignSource));
    let _ = lab.source();

    lab.install(1, from_callee(ice("ours", "forked")));
    assert_eq!(heard_at(&mut lab, 2), Ok(address(RELAYED)));
    assert_eq!(speaks(&mut lab, CALLEE, 3), Err(Discard::ForeignSource));
    assert_eq!(lab.source().peer, endpoint(address(RELAYED)));
    // And back.
    lab.install(1, from_callee(ice("ours", "theirs")));
    assert_eq!(heard_at(&mut lab, 3), Ok(address(CALLEE)));
}

#[test]
fn after_a_restart_media_goes_on_until_the_new_nomination() {
    let mut lab = lab();
    nominated(&mut lab, CALLEE, "ours", "theirs", 5);
    assert_eq!(speaks(&mut lab, CALLEE, 1), Ok(()));
    let restarted = IceMedia {
        before: Some(credentials("ours")),
        ..ice("anew", "theirs2")
    };
    lab.install(1, from_callee(restarted.clone()));
    assert_eq!(speaks(&mut lab, CALLEE, 2), Ok(()));
    assert_eq!(heard_at(&mut lab, 1), Ok(address(CALLEE)));
    // The old credentials keep the old pair open and open no new one.
    checked(&mut lab, CALLEE, "ours", "theirs", 5);
    nominated(&mut lab, RELAYED, "ours", "theirs", 9);
    assert_eq!(heard_at(&mut lab, 2), Ok(address(CALLEE)));
    checked(&mut lab, RELAYED, "anew", "theirs2", 9);
    assert_eq!(heard_at(&mut lab, 3), Ok(address(CALLEE)));
    nominated(&mut lab, RELAYED, "anew", "theirs2", 9);
    assert_eq!(heard_at(&mut lab, 4), Ok(address(RELAYED)));
    assert_eq!(speaks(&mut lab, CALLEE, 3), Err(Discard::ForeignSource));
    assert_eq!(speaks(&mut lab, RELAYED, 4), Ok(()));
}

#[test]
fn what_the_sdp_says_was_chosen_counts_if_it_was_checked() {
    let mut lab = lab();
    checked(&mut lab, CALLEE, "ours", "theirs", 9);
    checked(&mut lab, RELAYED, "ours", "theirs", 5);
    let chosen = |peer: &str| {
        from_callee(IceMedia {
            chosen: Some(address(peer)),
            ..ice("ours", "theirs")
        })
    };
    lab.install(1, chosen(STRANGER));
    assert_eq!(heard_at(&mut lab, 1), Ok(address(CALLEE)));
    lab.install(1, chosen(RELAYED));
    assert_eq!(heard_at(&mut lab, 2), Ok(address(RELAYED)));
    assert_eq!(speaks(&mut lab, CALLEE, 1), Err(Discard::ForeignSource));
}

#[test]
fn a_leg_that_comes_from_another_call_is_where_it_was() {
    let mut lab = lab();
    lab.table.remove(&at(OURS_CALLEE));
    let known = IceMedia {
        known: Some(address(RELAYED)),
        ..ice("ours", "theirs")
    };
    lab.install(1, from_callee(known.clone()));
    assert_eq!(heard_at(&mut lab, 1), Ok(address(RELAYED)));
    assert_eq!(speaks(&mut lab, CALLEE, 1), Err(Discard::ForeignSource));
    assert_eq!(speaks(&mut lab, RELAYED, 2), Ok(()));
    // What is nominated since goes before it, and stays.
    nominated(&mut lab, CALLEE, "ours", "theirs", 9);
    lab.install(1, from_callee(known));
    assert_eq!(heard_at(&mut lab, 2), Ok(address(CALLEE)));
}

#[test]
fn rtcp_has_a_pair_of_its_own_where_it_has_a_port_of_its_own() {
    let mut lab = lab();
    nominated(&mut lab, CALLEE, "ours", "theirs", 9);
    let report = receiver_report(9, 0, 0);
    let early = lab.send(CALLEE_RTCP, OURS_CALLEE_RTCP, &report);
    assert_eq!(early.err(), Some(Discard::ForeignSource));
    let checked = lab.send(
        CALLEE_RTCP,
        OURS_CALLEE_RTCP,
        &check("ours", "theirs", 9, true),
    );
    let checked = checked.expect("an answer");
    assert_eq!(checked.from, address(OURS_CALLEE_RTCP));
    assert!(lab.send(CALLEE_RTCP, OURS_CALLEE_RTCP, &report).is_ok());
    let back = lab.send(CALLER_RTCP, OURS_CALLER_RTCP, &receiver_report(7, 0, 0));
    assert_eq!(back.expect("relayed").to, address(CALLEE_RTCP));
}

#[test]
fn the_pairs_that_are_remembered_are_bounded_and_the_nominated_one_stays() {
    let mut lab = lab();
    nominated(&mut lab, CALLEE, "ours", "theirs", 1);
    for port in 1000u16..1060 {
        let from = format!("203.0.113.5:{port}");
        checked(&mut lab, &from, "ours", "theirs", u32::from(port));
    }
    assert_eq!(heard_at(&mut lab, 1), Ok(address(CALLEE)));
    assert_eq!(speaks(&mut lab, CALLEE, 1), Ok(()));
}
