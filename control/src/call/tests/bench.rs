//! Two telephones and a core between them, in simulated time.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use relay_user::media::{MediaInterface, MemoryMedia};

use super::super::{CallEvent, Change, Core, Output, PeerEvent};
use crate::{
    config,
    sip::{
        CSeq, Flow, HeaderName, Limits, Message, Method, NameAddress, Request, Response, Target,
        Text, parse_shared,
    },
};

pub const CARRIER: &str = "198.51.100.2:5060";
pub const CENTRE: &str = "192.0.2.2:5060";
pub const SECOND_CENTRE: &str = "192.0.2.3:5060";
pub const LISTEN_CARRIER: &str = "198.51.100.1:5060";
pub const LISTEN_CENTRE: &str = "192.0.2.1:5060";

pub const SETTINGS: &str = r#"
[media]
ports = "20000-20099"
[limits]
ring_seconds = 60
[[interface]]
name = "carrier0"
addresses = ["198.51.100.1"]
[[interface]]
name = "centre0"
addresses = ["192.0.2.1"]
[[trunk]]
name = "carrier"
interface = "carrier0"
transport = "udp"
listen = "198.51.100.1:5060"
addresses = ["198.51.100.2:5060"]
[[trunk]]
name = "centre"
interface = "centre0"
transport = "udp"
listen = "192.0.2.1:5060"
addresses = ["192.0.2.2:5060", "192.0.2.3:5060"]
[[route]]
from = ["carrier"]
number = "^\\+1555"
trunk = "centre"
[[route]]
from = ["centre"]
number = "^\\+44"
trunk = "carrier"
"#;

pub struct Bench {
    pub core: Core<MemoryMedia>,
    pub media: MemoryMedia,
    pub now: Instant,
    pub sent: VecDeque<(Target, Message)>,
    pub events: Vec<CallEvent>,
    pub peers: Vec<PeerEvent>,
    pub closed: Vec<Flow>,
}

/// Where we listen for a peer.
pub fn listener_of(peer: &str) -> &'static str {
    match peer {
        CARRIER => LISTEN_CARRIER,
        _ => LISTEN_CENTRE,
    }
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn settings(text: &str) -> Arc<config::Settings> {
    let settings = config::parse(text, Path::new("test.toml")).unwrap();
    Arc::new(settings.with_lookups(|_| Vec::new()))
}

/// A media plane with the interfaces and ports that the settings name.
pub fn media_of(settings: &config::Settings) -> MemoryMedia {
    let interfaces = settings
        .interfaces
        .iter()
        .map(|interface| MediaInterface {
            name: interface.name.clone(),
            addresses: interface.addresses.clone(),
        })
        .collect();
    let ports = settings.media.ports.range();
    MemoryMedia::new(interfaces, ports)
}

impl Bench {
    pub fn new() -> Self {
        Self::with(SETTINGS)
    }

    /// The centre's trunk is Teams', with further keys.
    pub fn teams(keys: &str) -> Self {
        let teams = "domain = \"sbc.example.com\"\nhold = \"inactive\"\nsip.profile = \"teams\"";
        Self::keyed("", &format!("{teams}\n{keys}"))
    }

    /// With further keys of the carrier's trunk and of the centre's.
    pub fn keyed(carrier: &str, centre: &str) -> Self {
        let (first, second) = (
            "addresses = [\"198.51.100.2:5060\"]",
            "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
        );
        Self::with(
            &SETTINGS
                .replace(first, &format!("{first}\n{carrier}"))
                .replace(second, &format!("{second}\n{centre}")),
        )
    }

    pub fn with(text: &str) -> Self {
        let settings = settings(text);
        let media = media_of(&settings);
        Self {
            core: Core::new(settings, media.clone(), [7; 32]),
            media,
            now: Instant::now(),
            sent: VecDeque::new(),
            events: Vec::new(),
            peers: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// A message of a peer over UDP.
    pub fn give(&mut self, peer: &str, message: impl Into<Message>) {
        let flow = Flow::udp(address(listener_of(peer)), address(peer));
        self.give_over(&flow, message);
    }

    pub fn give_over(&mut self, flow: &Flow, message: impl Into<Message>) {
        let bytes = message.into().to_bytes();
        self.core.receive(self.now, flow, &bytes);
        self.collect();
    }

    pub fn collect(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Transmit { target, bytes } => {
                    let message = match parse_shared(&bytes, &Limits::default()) {
                        Ok(message) => message,
                        // What was malformed is given back as it came (RFC 3261 §8.2.6.2).
                        Err(_) if bytes.starts_with(b"SIP/2.0 400 Bad Request: ") => continue,
                        Err(fault) => panic!("{fault}: {bytes:?}"),
                    };
                    self.sent.push_back((target, message));
                }
                Output::Event(event) => self.events.push(event),
                Output::Peer(event) => self.peers.push(event),
                Output::Close(flow) => self.closed.push(flow),
            }
        }
    }

    /// Lets time pass, and everything happen that is due in it.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.core.next_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.core.timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    /// The next message to a peer.
    pub fn next(&mut self, peer: &str) -> Option<(Target, Message)> {
        let peer = address(peer);
        let at = self
            .sent
            .iter()
            .position(|(target, _)| target.remote == peer)?;
        self.sent.remove(at)
    }

    /// An INVITE of one peer as it reaches the other.
    #[track_caller]
    pub fn carry(&mut self, from: &str, invite: impl Into<Message>, to: &str) -> Request {
        self.give(from, invite);
        self.response(from, 100);
        self.request(to, Method::Invite)
    }

    /// A call of the carrier's that has reached the centre: its ends, and the centre's INVITE.
    #[track_caller]
    pub fn begin_call(&mut self) -> (Phone, Phone, Request) {
        let mut caller = Phone::caller(CARRIER, "+15551234");
        let invite = caller.invite(&sdp(CARRIER, 4000, ""));
        let onward = self.carry(CARRIER, invite, CENTRE);
        let callee = Phone::callee(CENTRE, &onward, "b1");
        (caller, callee, onward)
    }

    /// The callee answers the call that has reached it with its media at a port of its host, and
    /// the caller agrees. The answer as the caller has it.
    #[track_caller]
    pub fn answer_call(
        &mut self,
        caller: &mut Phone,
        callee: &Phone,
        invite: &Request,
        port: u16,
    ) -> Response {
        let answer = callee.answer(invite, 200, &sdp(callee.peer, port, ""));
        self.give(callee.peer, answer);
        self.request(callee.peer, Method::Ack);
        let ok = self.response(caller.peer, 200);
        caller.learn(&ok);
        self.give(caller.peer, caller.ack());
        ok
    }

    /// A re-INVITE of one end that the other one agrees to: as it reaches the other, and the answer
    /// as it comes back.
    #[track_caller]
    pub fn reinvite(
        &mut self,
        one: &mut Phone,
        invite: Request,
        other: &Phone,
        answer: &Bytes,
    ) -> (Request, Response) {
        let onward = self.carry(one.peer, invite, other.peer);
        self.give(other.peer, other.answer(&onward, 200, answer));
        self.request(other.peer, Method::Ack);
        let ok = self.response(one.peer, 200);
        self.give(one.peer, one.ack());
        (onward, ok)
    }

    /// The next request to a peer, which must be of that method.
    #[track_caller]
    pub fn request(&mut self, peer: &str, method: Method) -> Request {
        match self.next(peer) {
            Some((_, Message::Request(request))) if request.method == method => request,
            other => panic!("{method} to {peer} expected, not {other:?}"),
        }
    }

    /// The next response to a peer, which must have that status.
    #[track_caller]
    pub fn response(&mut self, peer: &str, status: u16) -> Response {
        match self.next(peer) {
            Some((_, Message::Response(response))) if response.status == status => response,
            other => panic!(
                "{status} to {peer} expected, not {other:?}; {:?}",
                self.core.statistics().discards
            ),
        }
    }

    /// Nothing more has been sent to anybody.
    #[track_caller]
    pub fn silent(&self) {
        assert!(self.sent.is_empty(), "{:#?}", self.sent);
    }

    pub fn changes(&self) -> Vec<&Change> {
        self.events.iter().map(|event| &event.change).collect()
    }

    /// Everything has been given back, once the transactions have run out.
    #[track_caller]
    pub fn finished(&mut self) {
        assert_eq!(self.core.calls(), [], "a call is left");
        assert_eq!(self.media.reserved_ports(), 0, "a port is left");
        assert!(self.media.calls().is_empty(), "media is left");
        self.pass(Duration::from_secs(200));
        assert!(self.core.is_idle(), "a transaction is left");
        assert!(self.core.is_clean(), "something of a call is left");
    }
}

/// One end of a dialog, as a telephone sees it.
#[derive(Clone)]
pub struct Phone {
    pub peer: &'static str,
    pub call_id: Text,
    pub local: NameAddress,
    pub remote: NameAddress,
    pub target: String,
    pub sequence: u32,
    branches: u32,
}

pub fn sdp(peer: &str, port: u16, extra: &str) -> Bytes {
    let host = address(peer).ip();
    format!(
        "v=0\r\no=- 1 {port} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n{extra}"
    )
    .into()
}

pub fn text(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

impl Phone {
    pub fn caller(peer: &'static str, number: &str) -> Self {
        let host = address(peer);
        let local: NameAddress = format!("\"Alice\" <sip:+4930123@{host}>;tag=a-{}", host.ip())
            .parse()
            .unwrap();
        let called = listener_of(peer);
        Self {
            peer,
            call_id: format!("secret-call-of-{}", host.ip()).into(),
            local,
            remote: format!("<sip:{number}@{called}>").parse().unwrap(),
            target: format!("sip:{number}@{called}"),
            sequence: 0,
            branches: 0,
        }
    }

    /// With a Call-ID of its own, for calls beside another one.
    pub fn with_call_id(self, call_id: &str) -> Self {
        Self {
            call_id: call_id.into(),
            ..self
        }
    }

    /// The end that answers an INVITE.
    pub fn callee(peer: &'static str, invite: &Request, tag: &str) -> Self {
        Self {
            peer,
            call_id: invite.headers.call_id().unwrap(),
            local: invite.headers.to().unwrap().with_tag(tag),
            remote: invite.headers.from().unwrap(),
            target: invite.headers.contact().unwrap().uri.to_string(),
            sequence: 0,
            branches: 0,
        }
    }

    /// Takes the other end's tag and Contact from its response.
    pub fn learn(&mut self, response: &Response) {
        self.remote = response.headers.to().unwrap();
        self.target = response.headers.contact().unwrap().uri.to_string();
    }

    pub fn numbered(&mut self, method: Method, number: u32) -> Request {
        self.branches += 1;
        let tag = self.local.tag().unwrap();
        let branch = format!("z9hG4bK{}-{tag}-{}", self.call_id, self.branches);
        Request::new(method.clone(), self.target.parse().unwrap())
            .with(
                HeaderName::Via,
                format!("SIP/2.0/UDP {};rport;branch={branch}", self.peer),
            )
            .with(HeaderName::MaxForwards, 70)
            .with(HeaderName::From, &self.local)
            .with(HeaderName::To, &self.remote)
            .with(HeaderName::CallId, &self.call_id)
            .with(HeaderName::CSeq, CSeq::new(number, method))
            .with(HeaderName::Contact, format!("<sip:secret@{}>", self.peer))
            .with(HeaderName::UserAgent, "secret-agent")
    }

    pub fn request(&mut self, method: Method) -> Request {
        self.sequence += 1;
        self.numbered(method, self.sequence)
    }

    pub fn invite(&mut self, body: &Bytes) -> Request {
        let request = self.request(Method::Invite);
        if body.is_empty() {
            request
        } else {
            request.with_body("application/sdp", body.clone())
        }
    }

    pub fn ack(&mut self) -> Request {
        self.numbered(Method::Ack, self.sequence)
    }

    /// The ACK of a 200 that made the offer.
    pub fn ack_with(&mut self, answer: Bytes) -> Request {
        self.ack().with_body("application/sdp", answer)
    }

    /// An answer of this end, with its tag and Contact.
    pub fn answer(&self, request: &Request, status: u16, body: &Bytes) -> Response {
        let tag = self.local.tag().unwrap();
        let response = Response::to_request(request, status, Some(&tag))
            .copy_record_route(request)
            .with(HeaderName::Contact, format!("<sip:secret@{}>", self.peer))
            .with(HeaderName::Server, "secret-server");
        if body.is_empty() {
            response
        } else {
            response.with_body("application/sdp", body.clone())
        }
    }
}

/// The CANCEL of an INVITE.
pub fn cancel(invite: &Request) -> Request {
    let mut cancel = Request::new(Method::Cancel, invite.uri.clone());
    for name in [
        HeaderName::Via,
        HeaderName::MaxForwards,
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
    ] {
        cancel
            .headers
            .push_header(invite.headers.get(name).unwrap().clone());
    }
    let number = invite.headers.cseq().unwrap().number;
    cancel.with(HeaderName::CSeq, CSeq::new(number, Method::Cancel))
}

/// The ACK of a refusal.
pub fn refusal_ack(invite: &Request, refusal: &Response) -> Request {
    let mut ack = cancel(invite);
    ack.method = Method::Ack;
    let number = invite.headers.cseq().unwrap().number;
    ack.headers
        .set(HeaderName::CSeq, CSeq::new(number, Method::Ack));
    ack.headers
        .set(HeaderName::To, refusal.headers.to().unwrap());
    ack
}

/// The settings with a media address of its own for users of the centre who are inside.
pub fn with_internal_address() -> String {
    SETTINGS
        .replace("[\"192.0.2.1\"]", "[\"192.0.2.1\", \"192.0.2.9\"]")
        .replace(
            "listen = \"192.0.2.1:5060\"",
            "listen = \"192.0.2.1:5060\"\ninternal_address = \"192.0.2.9\"",
        )
}

/// A call that the carrier has made and the centre has answered, and its two ends.
pub fn up() -> (Bench, Phone, Phone) {
    let mut bench = Bench::new();
    let (caller, callee) = bring_up(&mut bench);
    bench.silent();
    (bench, caller, callee)
}

pub fn bring_up(bench: &mut Bench) -> (Phone, Phone) {
    let (mut caller, callee, invite) = bench.begin_call();
    bench.answer_call(&mut caller, &callee, &invite, 5000);
    (caller, callee)
}
