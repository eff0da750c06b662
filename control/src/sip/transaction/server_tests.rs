use std::time::Duration;

use super::{
    super::{CSeq, Method, Response, Transport},
    bench::{Bench, incoming, request, seconds, sent_by, target},
    *,
};

#[test]
fn an_invite_gets_its_100_at_once_and_its_last_response_again() {
    let mut bench = Bench::new();
    let flow = target(Transport::Udp);
    let invite = incoming(Method::Invite, "z9hG4bKa");
    bench.receive(&flow, invite.clone());
    assert_eq!(bench.sent_status(100).len(), 1);
    let id = bench.request_id();
    bench.receive(&flow, invite.clone());
    assert_eq!(bench.sent_status(100).len(), 2);
    bench.respond(id, &Response::to_request(&invite, 180, Some("t")));
    bench.receive(&flow, invite);
    assert_eq!(bench.sent_status(180).len(), 2);
    assert_eq!(bench.take_events(), ["request"]);
}

#[test]
fn a_refusal_is_sent_until_its_ack() {
    let mut bench = Bench::new();
    let flow = target(Transport::Udp);
    let invite = incoming(Method::Invite, "z9hG4bKa");
    bench.receive(&flow, invite.clone());
    let id = bench.request_id();
    bench.respond(id, &Response::to_request(&invite, 486, Some("t")));
    bench.run_until(seconds(12.0));
    let times: Vec<f64> = bench
        .sent_status(486)
        .iter()
        .map(Duration::as_secs_f64)
        .collect();
    assert_eq!(times, [0.0, 0.5, 1.5, 3.5, 7.5, 11.5]);
    bench.receive(&flow, incoming(Method::Ack, "z9hG4bKa"));
    bench.receive(&flow, incoming(Method::Ack, "z9hG4bKa"));
    bench.run_until(seconds(17.0));
    assert_eq!(bench.take_events(), ["request", "terminated"]);
    assert_eq!(bench.layer.fired(Timer::I), 1);
    assert_eq!(bench.sent_status(486).len(), 6);
    bench.assert_empty();
}

#[test]
fn a_refusal_without_ack_is_told() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut bench = Bench::new();
        let invite = incoming(Method::Invite, "z9hG4bKa");
        bench.receive(&target(transport), invite.clone());
        let id = bench.request_id();
        bench.respond(id, &Response::to_request(&invite, 404, Some("t")));
        assert_eq!(
            bench.layer.respond(
                bench.now,
                id,
                &Response::to_request(&invite, 200, Some("t"))
            ),
            Err(TransactionError::Answered)
        );
        bench.run_until(seconds(32.0));
        assert_eq!(bench.take_events(), ["request", "no ack", "terminated"]);
        bench.assert_empty();
    }
}

#[test]
fn an_accepted_invite_absorbs_itself_and_passes_its_ack() {
    let mut bench = Bench::new();
    let flow = target(Transport::Udp);
    let invite = incoming(Method::Invite, "z9hG4bKa");
    bench.receive(&flow, invite.clone());
    let id = bench.request_id();
    let ok = Response::to_request(&invite, 200, Some("t"));
    bench.respond(id, &ok);
    bench.receive(&flow, invite);
    assert_eq!(bench.sent_status(200).len(), 1);
    bench.respond(id, &ok);
    assert_eq!(bench.sent_status(200).len(), 2);
    bench.receive(&flow, incoming(Method::Ack, "z9hG4bKother"));
    bench.receive(&flow, incoming(Method::Ack, "z9hG4bKa"));
    bench.run_until(seconds(32.0));
    assert_eq!(bench.take_events(), ["request", "ack", "ack", "terminated"]);
    assert_eq!(bench.layer.fired(Timer::L), 1);
    bench.assert_empty();
}

#[test]
fn another_request_is_answered_again_from_memory() {
    let mut bench = Bench::new();
    let flow = target(Transport::Udp);
    let options = incoming(Method::Options, "z9hG4bKa");
    bench.receive(&flow, options.clone());
    let id = bench.request_id();
    bench.receive(&flow, options.clone());
    assert!(bench.sent.is_empty(), "nothing to say yet");
    bench.respond(id, &Response::to_request(&options, 200, Some("t")));
    bench.receive(&flow, options);
    assert_eq!(bench.sent_status(200).len(), 2);
    bench.run_until(seconds(32.0));
    assert_eq!(bench.take_events(), ["request", "terminated"]);
    assert_eq!(bench.layer.fired(Timer::J), 1);
    bench.assert_empty();
}

#[test]
fn a_request_that_nobody_answers_does_not_stay() {
    let mut bench = Bench::new();
    bench.receive(&target(Transport::Tcp), incoming(Method::Info, "z9hG4bKa"));
    bench.run_until(seconds(37.0));
    assert_eq!(bench.take_events(), ["request", "terminated"]);
    bench.assert_empty();
}

#[test]
fn a_cancel_finds_its_invite() {
    let mut bench = Bench::new();
    let flow = target(Transport::Udp);
    let invite = incoming(Method::Invite, "z9hG4bKa");
    bench.receive(&flow, invite.clone());
    let id = bench.request_id();
    bench.respond(id, &Response::to_request(&invite, 180, Some("ring")));
    bench.receive(&flow, incoming(Method::Cancel, "z9hG4bKa"));
    bench.receive(&flow, incoming(Method::Cancel, "z9hG4bKa"));
    let (_, _, answer) = bench.sent.last().expect("answered");
    assert_eq!(answer.headers().cseq(), Ok(CSeq::new(1, Method::Cancel)));
    assert_eq!(
        answer.headers().to().expect("to").tag().as_deref(),
        Some("ring")
    );
    bench.respond(id, &Response::to_request(&invite, 487, Some("ring")));
    bench.receive(&flow, incoming(Method::Cancel, "z9hG4bKb"));
    assert_eq!(bench.sent_status(481).len(), 1);
    bench.receive(&flow, incoming(Method::Ack, "z9hG4bKa"));
    bench.run_until(seconds(40.0));
    assert_eq!(bench.take_events(), ["request", "cancel", "terminated"]);
    bench.assert_empty();
}

#[test]
fn responses_go_where_via_says() {
    let cases = [
        // rport: back to the source's port.
        (Transport::Udp, "198.51.100.9:777;rport", "192.0.2.2:6060"),
        // No rport: the source's address, sent-by's port, whatever address stands there.
        (Transport::Udp, "198.51.100.9:777", "192.0.2.2:777"),
        (Transport::Udp, "h.example.com", "192.0.2.2:5060"),
        (
            Transport::Udp,
            "h.example.com;maddr=203.0.113.5",
            "192.0.2.2:5060",
        ),
        // Over a stream: to the port that the sender listens on, should the connection be gone.
        (Transport::Tcp, "h.example.com;rport", "192.0.2.2:5060"),
        (Transport::Tls, "h.example.com", "192.0.2.2:5061"),
    ];
    for (transport, sent_by, remote) in cases {
        let mut bench = Bench::new();
        let flow = target(transport);
        let invite = request(Method::Invite).with(
            HeaderName::Via,
            format!("SIP/2.0/{} {sent_by};branch=z9hG4bKa", transport.via_name()),
        );
        bench.receive(&flow, invite);
        let (_, target, trying) = bench.sent.first().expect("100");
        assert_eq!(target.remote, remote.parse().expect(remote), "{sent_by}");
        assert_eq!(target.connection, flow.connection);
        let via = trying.headers().via().expect("via");
        assert_eq!(via.received(), Some("192.0.2.2".parse().expect("address")));
        let rport = sent_by.contains("rport").then_some(6060);
        assert_eq!(via.response_port(), rport);
    }
}

#[test]
fn requests_of_rfc_2543_are_told_apart_without_a_branch() {
    let mut bench = Bench::new();
    let flow = target(Transport::Udp);
    for (branch, end) in [("1", 40.0), ("z9hG4bK", 80.0)] {
        let invite = incoming(Method::Invite, branch);
        bench.receive(&flow, invite.clone());
        let id = bench.request_id();
        bench.receive(&flow, invite.clone());
        bench.respond(id, &Response::to_request(&invite, 486, Some("t")));
        bench.receive(&flow, incoming(Method::Ack, branch));
        bench.run_until(seconds(end));
        assert_eq!(bench.take_events(), ["request", "terminated"]);
    }
    assert_eq!(bench.sent_status(100).len(), 4);
    assert_eq!(bench.sent_status(486).len(), 2);
    bench.assert_empty();
}

#[test]
fn beyond_the_limit_new_requests_get_503_and_calls_can_still_end() {
    let mut bench = Bench::with(TransactionSettings {
        transactions: 8,
        ..TransactionSettings::default()
    });
    let flow = target(Transport::Udp);
    for index in 0..20 {
        bench.receive(&flow, incoming(Method::Invite, &format!("z9hG4bK{index}")));
    }
    assert_eq!(bench.layer.len(), 8);
    assert_eq!(bench.layer.counters().overloaded, 12);
    let (_, _, refused) = bench.sent.last().expect("refused");
    assert_eq!(
        refused.headers().number(HeaderName::RetryAfter),
        Ok(Some(5))
    );
    assert_eq!(
        bench.layer.request(
            bench.now,
            target(Transport::Udp),
            &sent_by(),
            request(Method::Invite)
        ),
        Err(TransactionError::Full { limit: 8 })
    );
    for index in 0..20 {
        let mut bye = incoming(Method::Bye, &format!("z9hG4bKbye{index}"));
        bye.headers.set(HeaderName::To, "<sip:bob@h>;tag=x");
        bench.receive(&flow, bye);
    }
    assert_eq!(bench.layer.len(), 10);
}
