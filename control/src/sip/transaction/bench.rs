//! One layer and the time that it is told.

use std::time::Duration;

use super::{
    super::{CSeq, Limits, Method, NameAddress, Request, SipUri, Transport, parse},
    *,
};

pub(super) const T1: Duration = Duration::from_millis(500);

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A layer, the time that it is told, and what came out of it.
pub(super) struct Bench {
    pub(super) layer: TransactionLayer,
    pub(super) start: Instant,
    pub(super) now: Instant,
    /// What was sent, and when after the start.
    pub(super) sent: Vec<(Duration, Target, Message)>,
    pub(super) events: Vec<TransactionEvent>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(TransactionSettings::default())
    }

    pub(super) fn with(settings: TransactionSettings) -> Self {
        let start = Instant::now();
        Self {
            layer: TransactionLayer::new(settings, 1),
            start,
            now: start,
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn drain(&mut self) {
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
    pub(super) fn run_until(&mut self, end: Duration) {
        let end = self.start + end;
        while let Some(at) = self.layer.next_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.layer.timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.drain();
    }

    pub(super) fn receive(&mut self, flow: &Flow, message: impl Into<Message>) {
        self.layer.receive(self.now, flow, message.into());
        self.drain();
    }

    pub(super) fn send(&mut self, transport: Transport, request: Request) -> TransactionId {
        let id = self
            .layer
            .request(self.now, target(transport), &sent_by(), request)
            .expect("sent");
        self.drain();
        id
    }

    pub(super) fn respond(&mut self, id: TransactionId, response: &Response) {
        self.layer
            .respond(self.now, id, response)
            .expect("answered");
        self.drain();
    }

    pub(super) fn sent_requests(&self, method: &Method) -> Vec<(Duration, Request)> {
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

    pub(super) fn sent_status(&self, status: u16) -> Vec<Duration> {
        self.sent
            .iter()
            .filter_map(|(at, _, message)| match message {
                Message::Response(response) if response.status == status => Some(*at),
                _ => None,
            })
            .collect()
    }

    /// The names of the events so far, emptied.
    pub(super) fn take_events(&mut self) -> Vec<&'static str> {
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
    pub(super) fn request_id(&self) -> TransactionId {
        self.events
            .iter()
            .find_map(|event| match event {
                TransactionEvent::Request { id, .. } => Some(*id),
                _ => None,
            })
            .expect("a request")
    }

    pub(super) fn assert_empty(&mut self) {
        assert!(self.layer.is_empty());
        assert!(self.layer.servers.is_empty());
        assert_eq!(self.layer.next_timeout(), None);
        assert_eq!(self.layer.slots.waiting(), 0);
    }
}

pub(super) fn target(transport: Transport) -> Target {
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

pub(super) fn sent_by() -> SentBy {
    SentBy {
        host: Text::from_static("sbc.example.com"),
        port: Some(5060),
    }
}

pub(super) fn request(method: Method) -> Request {
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
pub(super) fn incoming(method: Method, branch: &str) -> Request {
    request(method).with(
        HeaderName::Via,
        format!("SIP/2.0/UDP 192.0.2.2:6060;branch={branch}"),
    )
}

pub(super) fn ends(times: &[(Duration, Request)]) -> Vec<f64> {
    times.iter().map(|(at, _)| at.as_secs_f64()).collect()
}
