//! What transfers that are under way take of the calls that there may be.

use std::time::Duration;

use super::{
    bench::*,
    failover::with_fallback,
    replacing::replacing,
    transfer::{NONE, ask, notified, refer, renegotiate},
};
use crate::{
    call::CallState,
    sip::{HeaderName, Method, Request},
};

const TARGET: &str = "sip:+15557777@198.51.100.1";

/// Calls of the carrier's to the centre.
struct Calls {
    bench: Bench,
    /// How many have begun.
    begun: u32,
    callers: Vec<Phone>,
    callees: Vec<Phone>,
}

impl Calls {
    fn up(bench: Bench, count: usize) -> Self {
        let mut calls = Self {
            bench,
            begun: 0,
            callers: Vec::new(),
            callees: Vec::new(),
        };
        for _ in 0..count {
            calls.add();
        }
        calls
    }

    fn caller(&mut self) -> Phone {
        self.begun += 1;
        Phone::caller(CARRIER, "+15551234").with_call_id(&format!("call-{}", self.begun))
    }

    #[track_caller]
    fn add(&mut self) {
        let mut caller = self.caller();
        let invite = caller.invite(&sdp(CARRIER, 4000, ""));
        let invite = self.bench.carry(CARRIER, invite, CENTRE);
        let callee = Phone::callee(CENTRE, &invite, "b");
        self.bench.answer_call(&mut caller, &callee, &invite, 5000);
        self.callers.push(caller);
        self.callees.push(callee);
    }

    /// The caller of a call asks for a transfer to the centre, which begins: the INVITE.
    #[track_caller]
    fn transfer(&mut self, call: usize) -> Request {
        ask(&mut self.bench, &mut self.callers[call], TARGET);
        self.bench.request(CENTRE, Method::Invite)
    }

    /// As [`Calls::transfer`], when there is no room for it.
    #[track_caller]
    fn refused(&mut self, call: usize) {
        ask(&mut self.bench, &mut self.callers[call], TARGET);
        notified(&mut self.bench, &self.callers[call], "503", true);
        self.bench.silent();
    }

    /// A new call of the carrier's to the centre is refused for the limit of its trunk.
    fn refuses_calls(&mut self) -> bool {
        let before = self.bench.core.statistics().refused;
        let invite = self.caller().invite(&sdp(CARRIER, 4000, ""));
        self.bench.sent.clear();
        self.bench.give(CARRIER, invite.clone());
        self.bench.response(CARRIER, 100);
        if self.bench.core.statistics().refused != before {
            let refusal = self.bench.response(CARRIER, 503);
            self.bench.give(CARRIER, refusal_ack(&invite, &refusal));
            return true;
        }
        let onward = self.bench.request(CENTRE, Method::Invite);
        let callee = Phone::callee(CENTRE, &onward, "n");
        self.bench.give(CENTRE, callee.answer(&onward, 486, &NONE));
        self.bench.request(CENTRE, Method::Ack);
        let refusal = self.bench.response(CARRIER, 486);
        self.bench.give(CARRIER, refusal_ack(&invite, &refusal));
        false
    }

    /// How many legs of the centre's are in calls that are not ending.
    fn legs_of_centre(&self) -> usize {
        let calls = self.bench.core.calls();
        let calls = calls.iter().filter(|call| call.state != CallState::Ending);
        let legs = calls.flat_map(|call| &call.legs);
        legs.filter(|leg| &*leg.trunk == "centre").count()
    }
}

/// The new peer that an INVITE has reached.
fn peer(invite: &Request) -> Phone {
    Phone::callee(CENTRE, invite, "n1")
}

#[test]
fn transfers_that_are_under_way_at_once_keep_a_trunks_limit_together() {
    let mut calls = Calls::up(Bench::keyed("", "limits.calls = 3"), 2);
    let invite = calls.transfer(0);
    calls.refused(1);
    assert!(calls.refuses_calls(), "a new call takes the place");
    let new = peer(&invite);
    let bench = &mut calls.bench;
    bench.give(CENTRE, new.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    bench.request(CENTRE, Method::Ack);
    notified(bench, &calls.callers[0], "200", true);
    renegotiate(bench, &calls.callees[0], 5000);
    assert_eq!(calls.legs_of_centre(), 3);
    calls.refused(1);
}

#[test]
fn a_tenant_has_its_limit_over_transfers_between_its_trunks() {
    // The carrier's calls to the first trunk of the tenant's go on to it and to the second one.
    let text = SETTINGS.replace(
        "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
        "addresses = [\"192.0.2.2:5060\"]\ntenant = \"customer\"",
    );
    let text = format!("{text}\n[[tenant]]\nname = \"customer\"\nlimits.calls = 3");
    let mut calls = Calls::up(Bench::with(&text), 2);
    calls.transfer(0);
    calls.refused(1);
    // Who is of the tenant's own makes room.
    let (callee, to) = (&mut calls.callees[1], "sip:+447777@192.0.2.1");
    ask(&mut calls.bench, callee, to);
    calls.bench.request(CARRIER, Method::Invite);
    let refused = calls.bench.core.statistics().refused;
    assert_eq!(refused[&("centre".into(), "tenant-calls")], 1);
}

/// A transfer ends in a way, after which another one may have its place.
fn gives_back(bench: Bench, end: impl FnOnce(&mut Calls, Request)) {
    let mut calls = Calls::up(bench, 2);
    let invite = calls.transfer(0);
    calls.refused(1);
    end(&mut calls, invite);
    calls.bench.sent.clear();
    calls.transfer(1);
    assert!(calls.refuses_calls(), "there was more than one place");
}

fn three() -> Bench {
    Bench::keyed("", "limits.calls = 3")
}

#[test]
fn a_transfer_that_is_refused_gives_its_place_back() {
    for status in [302, 404, 486, 600] {
        gives_back(three(), |calls, invite| {
            let answer = peer(&invite).answer(&invite, status, &NONE);
            calls.bench.give(CENTRE, answer);
            let caller = &calls.callers[0];
            calls.bench.request(CENTRE, Method::Ack);
            notified(&mut calls.bench, caller, &status.to_string(), true);
        });
    }
}

#[test]
fn a_transfer_that_no_address_serves_gives_its_place_back() {
    gives_back(three(), |calls, invite| {
        calls
            .bench
            .give(CENTRE, peer(&invite).answer(&invite, 503, &NONE));
        calls.bench.request(CENTRE, Method::Ack);
        let second = calls.bench.request(SECOND_CENTRE, Method::Invite);
        calls.refused(1);
        let new = Phone::callee(SECOND_CENTRE, &second, "n2");
        calls
            .bench
            .give(SECOND_CENTRE, new.answer(&second, 486, &NONE));
    });
}

#[test]
fn a_transfer_whose_answer_is_unusable_gives_its_place_back() {
    gives_back(three(), |calls, invite| {
        calls
            .bench
            .give(CENTRE, peer(&invite).answer(&invite, 200, &NONE));
        notified(&mut calls.bench, &calls.callers[0], "488", true);
        calls.bench.request(CENTRE, Method::Ack);
        calls.bench.request(CENTRE, Method::Bye);
    });
}

#[test]
fn a_transfer_that_nobody_answers_gives_its_place_back_when_it_is_given_up() {
    gives_back(three(), |calls, invite| {
        calls
            .bench
            .give(CENTRE, peer(&invite).answer(&invite, 180, &NONE));
        notified(&mut calls.bench, &calls.callers[0], "180", false);
        calls.bench.pass(Duration::from_secs(60));
        calls.bench.request(CENTRE, Method::Cancel);
        notified(&mut calls.bench, &calls.callers[0], "408", true);
    });
}

#[test]
fn a_call_that_ends_during_its_transfer_gives_its_places_back() {
    gives_back(three(), |calls, _| {
        let bye = calls.callees[0].request(Method::Bye);
        calls.bench.give(CENTRE, bye);
        calls.bench.response(CENTRE, 200);
        // The place of the call itself is free too.
        assert!(!calls.refuses_calls());
        calls.bench.sent.clear();
        calls.add();
    });
}

#[test]
fn a_transfer_whose_asker_has_gone_gives_all_back_when_it_fails() {
    gives_back(three(), |calls, invite| {
        let bye = calls.callers[0].request(Method::Bye);
        calls.bench.give(CARRIER, bye);
        calls.bench.response(CARRIER, 200);
        calls.refused(1);
        calls
            .bench
            .give(CENTRE, peer(&invite).answer(&invite, 486, &NONE));
        calls.bench.request(CENTRE, Method::Ack);
        calls.bench.request(CENTRE, Method::Bye);
        calls.bench.sent.clear();
        calls.add();
    });
}

#[test]
fn a_transfer_that_goes_on_to_a_fallback_gives_its_place_back_and_takes_one_there() {
    let mut calls = Calls::up(with_fallback("limits.calls = 1"), 3);
    let first = calls.transfer(0);
    let refuse = |calls: &mut Calls, invite: &Request, call: usize, status: &str| {
        calls
            .bench
            .give(CENTRE, peer(invite).answer(invite, 503, &NONE));
        calls.bench.request(CENTRE, Method::Ack);
        if status == "503" {
            notified(&mut calls.bench, &calls.callers[call], status, true);
            calls.bench.silent();
        }
    };
    refuse(&mut calls, &first, 0, "");
    let second = calls.bench.request(SECOND_CENTRE, Method::Invite);
    let another = calls.transfer(1);
    refuse(&mut calls, &another, 1, "503");
    let new = Phone::callee(SECOND_CENTRE, &second, "n2");
    calls
        .bench
        .give(SECOND_CENTRE, new.answer(&second, 486, &NONE));
    calls.bench.request(SECOND_CENTRE, Method::Ack);
    notified(&mut calls.bench, &calls.callers[0], "486", true);
    let third = calls.transfer(2);
    refuse(&mut calls, &third, 2, "");
    calls.bench.request(SECOND_CENTRE, Method::Invite);
}

/// Somebody of the centre's who is to take the place of a caller of the carrier's.
fn successor(calls: &Calls, call: usize, name: &str) -> (Phone, Request) {
    let mut new = Phone::caller(CENTRE, "+449999").with_call_id(name);
    let invite = new.invite(&sdp(CENTRE, 5100, ""));
    let invite = replacing(&calls.callers[call], invite);
    (new, invite)
}

#[test]
fn an_invite_with_replaces_keeps_the_limits_and_gives_its_place_back_when_it_fails() {
    let mut calls = Calls::up(three(), 2);
    let (_, invite) = successor(&calls, 0, "one");
    let asked = calls.bench.carry(CENTRE, invite, CENTRE);
    calls.refused(1);
    let (_, another) = successor(&calls, 1, "another");
    calls.bench.give(CENTRE, another.clone());
    calls.bench.response(CENTRE, 100);
    let refusal = calls.bench.response(CENTRE, 503);
    assert!(refusal.headers.has(HeaderName::RetryAfter));
    calls.bench.give(CENTRE, refusal_ack(&another, &refusal));
    // The one that stays does not agree.
    let answer = calls.callees[0].answer(&asked, 488, &NONE);
    calls.bench.give(CENTRE, answer);
    calls.bench.request(CENTRE, Method::Ack);
    calls.bench.response(CENTRE, 488);
    let (_, again) = successor(&calls, 1, "again");
    let asked = calls.bench.carry(CENTRE, again, CENTRE);
    let answer = calls.callees[1].answer(&asked, 200, &sdp(CENTRE, 5000, ""));
    calls.bench.give(CENTRE, answer);
    assert_eq!(calls.legs_of_centre(), 3);
    calls.bench.sent.clear();
    calls.refused(0);
}

#[test]
fn legs_that_were_taken_over_keep_no_new_call_out_and_are_no_more_than_calls_may_be() {
    let text = SETTINGS.replace("ring_seconds = 60", "ring_seconds = 60\ncalls = 2");
    let mut calls = Calls::up(Bench::with(&text), 1);
    let invite = calls.transfer(0);
    let mut second = Phone::callee(CENTRE, &invite, "n1");
    let bench = &mut calls.bench;
    bench.give(CENTRE, second.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    bench.request(CENTRE, Method::Ack);
    notified(bench, &calls.callers[0], "200", true);
    renegotiate(bench, &calls.callees[0], 5000);
    assert!(!calls.refuses_calls(), "one of two calls is up");

    let bench = &mut calls.bench;
    ask(bench, &mut second, "sip:+447777@192.0.2.1");
    let invite = bench.request(CARRIER, Method::Invite);
    let mut third = Phone::callee(CARRIER, &invite, "n2");
    bench.give(CARRIER, third.answer(&invite, 200, &sdp(CARRIER, 4100, "")));
    bench.request(CARRIER, Method::Ack);
    notified(bench, &second, "200", true);
    renegotiate(bench, &calls.callees[0], 5000);
    assert_eq!(bench.core.call_count(), 3);
    assert!(!calls.refuses_calls());

    let bench = &mut calls.bench;
    bench.give(CARRIER, refer(&mut third, TARGET));
    let later = bench.response(CARRIER, 503);
    assert!(later.headers.has(HeaderName::RetryAfter));
    // They hang up, or are hung up.
    bench.pass(Duration::from_secs(60));
    bench.sent.clear();
    ask(bench, &mut third, TARGET);
    bench.request(CENTRE, Method::Invite);
}

#[test]
fn transfers_that_are_under_way_at_once_let_no_more_legs_leave_than_calls_may_be() {
    let text = SETTINGS.replace("ring_seconds = 60", "ring_seconds = 60\ncalls = 2");
    let mut calls = Calls::up(Bench::with(&text), 2);
    let answered = |calls: &mut Calls, call: usize, invite: &Request| {
        let bench = &mut calls.bench;
        let new = peer(invite);
        bench.give(CENTRE, new.answer(invite, 200, &sdp(CENTRE, 5100, "")));
        bench.request(CENTRE, Method::Ack);
        notified(bench, &calls.callers[call], "200", true);
        renegotiate(bench, &calls.callees[call], 5000);
        new
    };
    let first = calls.transfer(0);
    let mut new = answered(&mut calls, 0, &first);
    // One has left, and another one will.
    let second = calls.transfer(1);
    calls.bench.give(CENTRE, refer(&mut new, TARGET));
    let later = calls.bench.response(CENTRE, 503);
    assert!(later.headers.has(HeaderName::RetryAfter));
    answered(&mut calls, 1, &second);
    assert_eq!(calls.bench.core.call_count(), 4);
}
