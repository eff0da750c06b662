use std::time::Duration;

use super::{
    super::{CSeq, Limits, Method, NameAddress, Request, SipUri, Transport, parse},
    *,
};

const T1: Duration = Duration::from_millis(500);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A layer, the time that it is told, and what came out of it.
struct Bench {
    layer: TransactionLayer,
    start: Instant,
    now: Instant,
    /// What was sent, and when after the start.
    sent: Vec<(Duration, Target, Message)>,
    events: Vec<TransactionEvent>,
}

impl Bench {
    fn new() -> Self {
        Self::with(TransactionSettings::default())
    }

    fn with(settings: TransactionSettings) -> Self {
        let start = Instant::now();
        Self {
            layer: TransactionLayer::new(settings, 1),
            start,
            now: start,
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.layer.poll() {
            match output {
                TransactionOutput::Transmit { target, bytes } => self.sent.push((
                    self.now - self.start,
                    target,
                    parse(&bytes, &Limits::default()).expect("what the layer sends is good"),
                )),
                TransactionOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// Lets the time pass, firing whatever is due on the way.
    fn run_until(&mut self, end: Duration) {
        let end = self.start + end;
        while let Some(at) = self.layer.next_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.layer.timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.drain();
    }

    fn receive(&mut self, flow: &Flow, message: impl Into<Message>) {
        self.layer.receive(self.now, flow, message.into());
        self.drain();
    }

    fn send(&mut self, transport: Transport, request: Request) -> TransactionId {
        let id = self
            .layer
            .request(self.now, target(transport), &sent_by(), request)
            .expect("sent");
        self.drain();
        id
    }

    fn respond(&mut self, id: TransactionId, response: &Response) {
        self.layer
            .respond(self.now, id, response)
            .expect("answered");
        self.drain();
    }

    fn sent_requests(&self, method: &Method) -> Vec<(Duration, Request)> {
        self.sent
            .iter()
            .filter_map(|(at, _, message)| match message {
                Message::Request(request) if request.method == *method => {
                    Some((*at, request.clone()))
                }
                _ => None,
            })
            .collect()
    }

    fn sent_status(&self, status: u16) -> Vec<Duration> {
        self.sent
            .iter()
            .filter_map(|(at, _, message)| match message {
                Message::Response(response) if response.status == status => Some(*at),
                _ => None,
            })
            .collect()
    }

    /// The names of the events so far, emptied.
    fn take_events(&mut self) -> Vec<&'static str> {
        self.events
            .drain(..)
            .map(|event| match event {
                TransactionEvent::Request { .. } => "request",
                TransactionEvent::Ack { .. } => "ack",
                TransactionEvent::Cancel { .. } => "cancel",
                TransactionEvent::Response { .. } => "response",
                TransactionEvent::Timeout { .. } => "timeout",
                TransactionEvent::NoAck { .. } => "no ack",
                TransactionEvent::TransportFailed { .. } => "transport failed",
                TransactionEvent::Terminated { .. } => "terminated",
            })
            .collect()
    }

    /// The one server transaction that has been announced.
    fn request_id(&self) -> TransactionId {
        self.events
            .iter()
            .find_map(|event| match event {
                TransactionEvent::Request { id, .. } => Some(*id),
                _ => None,
            })
            .expect("a request")
    }

    fn assert_empty(&mut self) {
        assert!(self.layer.is_empty());
        assert!(self.layer.servers.is_empty());
        assert_eq!(self.layer.next_timeout(), None);
        assert_eq!(self.layer.slots.waiting(), 0);
    }
}

fn target(transport: Transport) -> Target {
    Target {
        transport,
        connection: transport
            .is_reliable()
            .then_some(super::super::ConnectionId(3)),
        ..Target::udp(
            "192.0.2.1:5060".parse().expect("address"),
            "192.0.2.2:6060".parse().expect("address"),
        )
    }
}

fn sent_by() -> SentBy {
    SentBy {
        host: Text::from_static("sbc.example.com"),
        port: Some(5060),
    }
}

fn request(method: Method) -> Request {
    Request::new(
        method.clone(),
        SipUri::new(Some("bob"), "192.0.2.2", None).into(),
    )
    .with(
        HeaderName::From,
        NameAddress::new(SipUri::new(None, "a", None)).with_tag("f"),
    )
    .with(HeaderName::To, "<sip:bob@192.0.2.2>")
    .with(HeaderName::CallId, "call")
    .with(HeaderName::CSeq, CSeq::new(1, method))
    .with(HeaderName::Route, "<sip:p1;lr>, <sip:p2;lr>")
}

/// A request as a peer would send it.
fn incoming(method: Method, branch: &str) -> Request {
    request(method).with(
        HeaderName::Via,
        format!("SIP/2.0/UDP 192.0.2.2:6060;branch={branch}"),
    )
}

fn ends(times: &[(Duration, Request)]) -> Vec<f64> {
    times.iter().map(|(at, _)| at.as_secs_f64()).collect()
}

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
fn requests_without_a_branch_are_refused_once_for_all() {
    let mut bench = Bench::new();
    let flow = target(Transport::Udp);
    for branch in ["1", "z9hG4bK"] {
        bench.receive(&flow, incoming(Method::Invite, branch));
        bench.receive(&flow, incoming(Method::Ack, branch));
    }
    assert_eq!(bench.sent_status(400).len(), 2);
    assert_eq!(bench.take_events(), Vec::<&str>::new());
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
    for _ in 0..1000 {
        bench.send(Transport::Tcp, request(Method::Options));
        let (_, _, options) = bench.sent.pop().expect("sent");
        let Message::Request(options) = options else {
            panic!("a response")
        };
        bench.receive(&flow, Response::to_request(&options, 200, Some("t")));
    }
    assert!(bench.layer.is_empty());
    bench.run_until(seconds(33.0));
    bench.assert_empty();
}
