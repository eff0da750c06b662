use super::{
    super::{CSeq, Method, Response, Transport},
    bench::{Bench, T1, ends, request, seconds, sent_by, target},
    *,
};

#[test]
fn an_invite_is_sent_at_doubling_intervals_and_given_up_after_64_t1() {
    let mut bench = Bench::new();
    bench.send(Transport::Udp, request(Method::Invite));
    bench.run_until(seconds(40.0));
    let sent = bench.sent_requests(&Method::Invite);
    assert_eq!(ends(&sent), [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]);
    assert_eq!(bench.take_events(), ["timeout", "terminated"]);
    assert_eq!(bench.layer.fired(Timer::A), 6);
    assert_eq!(bench.layer.fired(Timer::B), 1);
    bench.assert_empty();
}

#[test]
fn another_request_is_sent_at_intervals_up_to_t2() {
    let mut bench = Bench::new();
    bench.send(Transport::Udp, request(Method::Options));
    bench.run_until(seconds(40.0));
    let sent = bench.sent_requests(&Method::Options);
    assert_eq!(
        ends(&sent),
        [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    );
    assert_eq!(bench.take_events(), ["timeout", "terminated"]);
    bench.assert_empty();
}

#[test]
fn a_stream_sends_nothing_again() {
    let mut bench = Bench::new();
    bench.send(Transport::Tls, request(Method::Invite));
    bench.send(Transport::Tcp, request(Method::Options));
    bench.run_until(seconds(40.0));
    assert_eq!(bench.sent.len(), 2);
    let via = bench.sent[0].2.headers().via().expect("via");
    assert!(via.parameters.has("alias"));
    assert_eq!(
        bench.take_events(),
        ["timeout", "terminated", "timeout", "terminated"]
    );
    bench.assert_empty();
}

#[test]
fn a_refused_invite_is_acknowledged_each_time() {
    for (transport, acks, d) in [(Transport::Udp, 3, 32.0), (Transport::Tcp, 1, 0.0)] {
        let mut bench = Bench::new();
        bench.send(transport, request(Method::Invite));
        let invite = bench.sent_requests(&Method::Invite).remove(0).1;
        let flow = target(transport);
        let busy = Response::to_request(&invite, 486, Some("t"));
        for _ in 0..3 {
            bench.receive(&flow, busy.clone());
        }
        let sent = bench.sent_requests(&Method::Ack);
        assert_eq!(sent.len(), acks);
        let ack = &sent[0].1;
        assert_eq!(ack.uri, invite.uri);
        assert_eq!(ack.headers.vias(), invite.headers.vias());
        assert_eq!(ack.headers.cseq(), Ok(CSeq::new(1, Method::Ack)));
        assert_eq!(ack.headers.to().expect("to").tag().as_deref(), Some("t"));
        assert_eq!(ack.headers.text("Route"), Some("<sip:p1;lr>, <sip:p2;lr>"));
        bench.run_until(seconds(d));
        assert_eq!(bench.take_events(), ["response", "terminated"]);
        assert_eq!(bench.layer.fired(Timer::D), 1);
        bench.assert_empty();
    }
}

#[test]
fn every_2xx_of_every_fork_is_told_until_m_ends() {
    let mut bench = Bench::new();
    bench.send(Transport::Udp, request(Method::Invite));
    let invite = bench.sent_requests(&Method::Invite).remove(0).1;
    let flow = target(Transport::Udp);
    bench.receive(&flow, Response::to_request(&invite, 180, Some("a")));
    bench.receive(&flow, Response::to_request(&invite, 200, Some("a")));
    bench.receive(&flow, Response::to_request(&invite, 200, Some("a")));
    bench.receive(&flow, Response::to_request(&invite, 200, Some("b")));
    bench.receive(&flow, Response::to_request(&invite, 180, Some("b")));
    assert_eq!(bench.take_events(), ["response"; 4]);
    bench.run_until(seconds(32.0));
    assert_eq!(bench.take_events(), ["terminated"]);
    assert_eq!(bench.layer.fired(Timer::M), 1);
    bench.receive(&flow, Response::to_request(&invite, 200, Some("c")));
    assert_eq!(bench.layer.counters().stray_responses, 1);
    bench.assert_empty();
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut bench = Bench::new();
    let id = bench.send(Transport::Udp, request(Method::Invite));
    let invite = bench.sent_requests(&Method::Invite).remove(0).1;
    let flow = target(Transport::Udp);
    bench
        .layer
        .cancel(bench.now, id, Some("SIP;cause=200"))
        .expect("cancelled");
    bench.drain();
    assert!(bench.sent_requests(&Method::Cancel).is_empty());
    bench.receive(&flow, Response::to_request(&invite, 100, None));
    let cancel = bench.sent_requests(&Method::Cancel).remove(0).1;
    assert_eq!(cancel.uri, invite.uri);
    assert_eq!(cancel.headers.vias(), invite.headers.vias());
    assert_eq!(cancel.headers.get("To"), invite.headers.get("To"));
    assert_eq!(cancel.headers.cseq(), Ok(CSeq::new(1, Method::Cancel)));
    assert_eq!(cancel.headers.text("Reason"), Some("SIP;cause=200"));
    assert_eq!(
        cancel.headers.text("Route"),
        Some("<sip:p1;lr>, <sip:p2;lr>")
    );
    // Asked twice, sent once; its own responses stay inside.
    bench.layer.cancel(bench.now, id, None).expect("again");
    bench.drain();
    bench.receive(&flow, Response::to_request(&cancel, 200, Some("t")));
    assert_eq!(bench.sent_requests(&Method::Cancel).len(), 1);
    bench.receive(&flow, Response::to_request(&invite, 487, Some("t")));
    assert_eq!(bench.take_events(), ["response", "response"]);
    bench.run_until(seconds(40.0));
    assert_eq!(bench.take_events(), ["terminated"]);
    assert_eq!(
        bench.layer.cancel(bench.now, id, None),
        Err(TransactionError::Unknown)
    );
    bench.assert_empty();
}

#[test]
fn an_invite_that_ignores_its_cancel_ends_after_64_t1() {
    let mut bench = Bench::new();
    let id = bench.send(Transport::Tcp, request(Method::Invite));
    let invite = bench.sent_requests(&Method::Invite).remove(0).1;
    bench.receive(
        &target(Transport::Tcp),
        Response::to_request(&invite, 180, Some("t")),
    );
    bench.layer.cancel(bench.now, id, None).expect("cancelled");
    bench.run_until(seconds(32.0));
    assert_eq!(bench.take_events(), ["response", "timeout", "terminated"]);
    bench.assert_empty();
}

#[test]
fn timer_c_cancels_a_call_that_only_rings() {
    let mut bench = Bench::new();
    bench.send(Transport::Udp, request(Method::Invite));
    let invite = bench.sent_requests(&Method::Invite).remove(0).1;
    let flow = target(Transport::Udp);
    bench.receive(&flow, Response::to_request(&invite, 180, Some("t")));
    bench.run_until(seconds(100.0));
    bench.receive(&flow, Response::to_request(&invite, 180, Some("t")));
    bench.run_until(seconds(284.0));
    assert!(bench.sent_requests(&Method::Cancel).is_empty());
    bench.run_until(seconds(285.0));
    assert_eq!(bench.sent_requests(&Method::Cancel).len(), 1);
    assert_eq!(bench.layer.fired(Timer::C), 1);
    bench.run_until(seconds(400.0));
    assert_eq!(
        bench.take_events(),
        ["response", "response", "timeout", "terminated"]
    );
    bench.assert_empty();
}

#[test]
fn a_final_response_to_another_request_comes_once() {
    let mut bench = Bench::new();
    bench.send(Transport::Udp, request(Method::Bye));
    let bye = bench.sent_requests(&Method::Bye).remove(0).1;
    let flow = target(Transport::Udp);
    bench.receive(&flow, Response::to_request(&bye, 100, None));
    bench.run_until(seconds(5.0));
    // After a provisional response the interval is T2.
    assert_eq!(ends(&bench.sent_requests(&Method::Bye)), [0.0, 0.5, 4.5]);
    bench.receive(&flow, Response::to_request(&bye, 200, Some("t")));
    bench.receive(&flow, Response::to_request(&bye, 200, Some("t")));
    assert_eq!(bench.take_events(), ["response", "response"]);
    bench.run_until(seconds(10.0));
    assert_eq!(bench.take_events(), ["terminated"]);
    assert_eq!(bench.layer.fired(Timer::K), 1);
    bench.assert_empty();
}

#[test]
fn responses_that_are_not_ours_are_dropped() {
    let mut bench = Bench::new();
    bench.send(Transport::Udp, request(Method::Options));
    let options = bench.sent_requests(&Method::Options).remove(0).1;
    let good = Response::to_request(&options, 200, Some("t"));
    let flow = target(Transport::Udp);

    let mut guessed = good.clone();
    let via = guessed.headers.via().expect("via").to_string();
    let branch = via.replace("z9hG4bK0000000000000000", "z9hG4bK0000000000000001");
    guessed.headers.set(HeaderName::Via, branch);
    let mut flipped = good.clone();
    let last = via.replace(";rport", "0;rport");
    flipped.headers.set(HeaderName::Via, last);
    let mut two = good.clone();
    two.headers
        .push(HeaderName::Via, "SIP/2.0/UDP h;branch=z9hG4bK1");
    let mut other = good.clone();
    other.headers.set(HeaderName::CSeq, "1 INVITE");
    for wrong in [guessed, flipped, two, other] {
        bench.receive(&flow, wrong);
    }
    assert_eq!(bench.take_events(), Vec::<&str>::new());
    assert_eq!(bench.layer.counters().stray_responses, 4);
    bench.receive(&flow, good);
    assert_eq!(bench.take_events(), ["response"]);
}

#[test]
fn a_transport_failure_ends_what_has_heard_nothing() {
    let mut bench = Bench::new();
    bench.send(Transport::Tcp, request(Method::Invite));
    let heard = bench.sent_requests(&Method::Invite).remove(0).1;
    bench.receive(
        &target(Transport::Tcp),
        Response::to_request(&heard, 180, Some("t")),
    );
    bench.send(Transport::Tcp, request(Method::Options));
    bench.send(Transport::Udp, request(Method::Options));
    bench
        .layer
        .transport_failed(bench.now, &target(Transport::Tcp));
    bench.drain();
    assert_eq!(
        bench.take_events(),
        ["response", "transport failed", "terminated"]
    );
    assert_eq!(bench.layer.len(), 2);
}

#[test]
fn a_connection_that_fails_for_one_of_several_who_share_a_peer_fails_for_no_other() {
    let theirs = |own_name: &str, local: &str| Target {
        connection: None,
        server_name: Some("peer.example.com".into()),
        own_name: Some(own_name.into()),
        local: local.parse().expect("address"),
        ..target(Transport::Tls)
    };
    let one = theirs("one.example.com", "192.0.2.1:5061");
    let others = [
        theirs("two.example.com", "192.0.2.1:5061"),
        theirs("one.example.com", "192.0.2.9:5061"),
    ];
    let mut bench = Bench::new();
    for target in others.iter().chain([&one]) {
        bench
            .layer
            .request(
                bench.now,
                target.clone(),
                &sent_by(),
                request(Method::Options),
            )
            .expect("sent");
    }
    bench.layer.transport_failed(bench.now, &one);
    bench.drain();
    assert_eq!(bench.take_events(), ["transport failed", "terminated"]);
    for target in &others {
        bench.layer.transport_failed(bench.now, target);
        bench.drain();
        assert_eq!(bench.take_events(), ["transport failed", "terminated"]);
    }
}

#[test]
fn what_cannot_begin_a_transaction_is_refused() {
    let mut bench = Bench::new();
    let mut without = request(Method::Options);
    without.headers.remove(HeaderName::CallId);
    for wrong in [request(Method::Ack), request(Method::Cancel), without] {
        assert_eq!(
            bench
                .layer
                .request(bench.now, target(Transport::Udp), &sent_by(), wrong),
            Err(TransactionError::Request)
        );
    }
    bench.assert_empty();
}

#[test]
fn a_2xx_is_sent_again_up_to_t2_for_64_t1() {
    let start = Instant::now();
    let mut again = SuccessRetransmission::new(
        start,
        &TransactionSettings::default(),
        target(Transport::Tls),
        Bytes::from_static(b"x"),
    );
    let mut times = Vec::new();
    loop {
        let now = again.next_timeout();
        match again.timeout(now) {
            SuccessStep::Transmit { .. } => times.push((now - start).as_secs_f64()),
            SuccessStep::Wait => panic!("woken for nothing"),
            SuccessStep::NoAck => {
                assert_eq!(now - start, T1 * 64);
                break;
            }
        }
    }
    assert_eq!(
        times,
        [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    );
}

#[test]
fn many_short_transactions_leave_no_alarms_behind() {
    let mut bench = Bench::new();
    let flow = target(Transport::Tcp);
    for _ in 0..10_000 {
        bench.send(Transport::Tcp, request(Method::Options));
        let (_, _, options) = bench.sent.pop().expect("sent");
        let Message::Request(options) = options else {
            panic!("a response")
        };
        bench.receive(&flow, Response::to_request(&options, 200, Some("t")));
    }
    assert!(bench.layer.is_empty());
    assert!(bench.layer.slots.waiting() <= 1025);
    bench.run_until(seconds(33.0));
    bench.assert_empty();
}
