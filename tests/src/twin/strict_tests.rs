//! The twin is strict: a scripted session border controller breaks each rule on purpose and is
//! refused, and the same message without the fault is taken.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{CipherSuite, ClientConfig, version::TLS12};

use super::{
    agent::{Agent, Arrive, Manner, Mode, RETRY_AFTER, SOON},
    authority::{Authority, Identity, Owner, Wanted},
    call::Call,
    link::{Connection, Link},
    message::Message,
    place::Twin,
    rules::{PROXIES, Rule},
    sdp::{Description, Sdp},
    secret::Key,
    tls,
};
use crate::lab::Door;

const SBC: &str = "sbc.example.com";
const PROXY: &str = "sip.pstnhub.microsoft.com";

/// A twin on the loopback and what a session border controller needs to meet it.
struct Bench {
    twin: Twin,
    authority: Authority,
}

impl Bench {
    fn new() -> Self {
        let authority = Authority::new("Twin").expect("an authority");
        let roots = authority.roots().expect("roots");
        let identity = teams(&authority);
        let server = tls::server(&identity, &roots, &tls::VERSIONS).expect("a server");
        let client =
            tls::client(Some(&identity), &roots, &tls::VERSIONS, &tls::SUITES).expect("a client");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let twin = Twin::start(&Door::here(), &[any], &server, &client).expect("a twin");
        Self { twin, authority }
    }

    fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let roots = self.authority.roots().expect("roots");
        tls::client(identity, &roots, &tls::VERSIONS, &tls::SUITES).expect("a client")
    }

    fn identity(&self, common_name: &str, alternatives: &[&str]) -> Identity {
        let wanted = Wanted {
            common_name,
            alternatives,
            usages: &[],
        };
        self.authority
            .issue(Owner::Sbc, &wanted)
            .expect("a certificate")
    }

    fn connect(&self, identity: &Identity) -> Sbc {
        let config = self.client(Some(identity));
        let to = self.twin.address(0);
        let connection =
            Connection::open(&Door::here(), None, to, PROXY, &config).expect("a connection");
        Sbc::new(connection)
    }

    fn good(&self) -> Sbc {
        self.connect(&self.identity(SBC, &[SBC]))
    }
}

fn teams(authority: &Authority) -> Identity {
    let wanted = Wanted {
        common_name: PROXY,
        alternatives: &PROXIES,
        usages: &[ExtendedKeyUsagePurpose::ServerAuth],
    };
    authority
        .issue(Owner::Teams, &wanted)
        .expect("a certificate")
}

/// A scripted session border controller: it sends what it is told to.
struct Sbc {
    link: Link,
    answers: mpsc::Receiver<Message>,
}

struct Deliver(Mutex<mpsc::Sender<Message>>);

impl Arrive for Deliver {
    fn arrive(&self, _: &Link, message: Message) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = sender.send(message);
    }
}

impl Sbc {
    fn new(connection: Arc<Connection>) -> Self {
        let (sender, answers) = mpsc::channel();
        let reader = Arc::clone(&connection);
        thread::spawn(move || reader.follow(&Deliver(Mutex::new(sender))));
        Self {
            link: Link::Tls(connection),
            answers,
        }
    }

    /// The answer to a request: the first that is not 100, or 100 when nothing follows at once.
    fn ask(&self, request: &Message) -> Message {
        self.link.send(request).expect("sent");
        let mut answer = self.answers.recv_timeout(SOON).expect("an answer");
        if answer.status() == Some(100)
            && let Ok(next) = self.answers.recv_timeout(Duration::from_millis(50))
        {
            answer = next;
        }
        answer
    }
}

fn offer() -> Description {
    Description {
        address: "192.0.2.1:20000".parse().expect("an address"),
        secure: true,
        formats: vec![(0, "PCMU/8000"), (8, ""), (101, "telephone-event/8000")]
            .into_iter()
            .map(|(format, codec)| (format, if codec.is_empty() { "PCMA/8000" } else { codec }))
            .collect(),
        keys: vec![Key::fresh(false).crypto(1)],
        direction: "sendrecv",
        extra: Vec::new(),
        sections: String::new(),
        version: 1,
    }
}

/// A request that nothing is wrong with.
fn request(method: &str) -> Message {
    let uri = match method {
        "INVITE" => format!("sip:+15550100@{PROXY};user=phone"),
        _ => format!("sip:{PROXY}:5061;transport=tls"),
    };
    let branch = super::agent::token();
    Message::request(method, &uri)
        .with(
            "Via",
            &format!("SIP/2.0/TLS {SBC}:5061;branch=z9hG4bK{branch};alias"),
        )
        .with("Max-Forwards", "70")
        .with(
            "From",
            &format!("<sip:+15550200@{SBC};user=phone>;tag={branch}"),
        )
        .with("To", &format!("<sip:+15550100@{PROXY};user=phone>"))
        .with("Call-ID", &branch)
        .with("CSeq", &format!("1 {method}"))
        .with(
            "Contact",
            &format!("<sip:+15550200@{SBC}:5061;transport=tls>"),
        )
        .with("X-MS-SBC", "Example/SBC/1.0")
}

fn invite() -> Message {
    request("INVITE").with_body("application/sdp", &offer().text())
}

fn replace(mut message: Message, name: &str, value: &str) -> Message {
    message.remove(name);
    message.with(name, value)
}

fn with_sdp(change: impl FnOnce(&mut Description)) -> Message {
    let mut offer = offer();
    change(&mut offer);
    request("INVITE").with_body("application/sdp", &offer.text())
}

fn last_broken(agent: &Agent) -> Vec<Rule> {
    agent.arrivals(0).pop().expect("an arrival").broken
}

#[test]
fn each_broken_rule_is_refused() {
    let bench = Bench::new();
    let sbc = bench.good();
    let contact = |value: &str| replace(invite(), "Contact", value);
    let without_contact = {
        let mut message = invite();
        message.remove("Contact");
        message
    };
    let text = |from: &str, to: &str| {
        let mut message = invite();
        message.body = message.body.replace(from, to);
        message
    };
    let cases = [
        (
            Rule::ContactIsAddress,
            contact("<sip:+1@192.0.2.1:5061;transport=tls>"),
            403,
        ),
        (Rule::ContactMissing, without_contact, 403),
        (
            Rule::ContactForeign,
            contact("<sip:+1@sbc.example.net:5061;transport=tls>"),
            403,
        ),
        (
            Rule::ContactForeign,
            contact("<sip:+1@one.sbc.example.com:5061;transport=tls>"),
            403,
        ),
        (
            Rule::ContactScheme,
            contact(&format!("<sips:+1@{SBC}:5061;transport=tls>")),
            403,
        ),
        (
            Rule::ContactIsAddress,
            replace(
                request("OPTIONS"),
                "Contact",
                "<sip:192.0.2.1:5061;transport=tls>",
            ),
            403,
        ),
        (
            Rule::RequestScheme,
            {
                let mut message = invite();
                message.start = message.start.replace("sip:", "sips:");
                message
            },
            416,
        ),
        (Rule::MethodNotAllowed, request("REFER"), 405),
        (Rule::MethodNotAllowed, request("PRACK"), 405),
        (Rule::MethodNotAllowed, request("UPDATE"), 405),
        (Rule::MethodNotAllowed, request("INFO"), 405),
        (
            Rule::Replaces,
            invite().with("Replaces", "a@b;to-tag=1;from-tag=2"),
            420,
        ),
        (Rule::Requires, invite().with("Require", "100rel"), 420),
        (Rule::NoOffer, request("INVITE"), 488),
        (Rule::NoSrtp, with_sdp(|sdp| sdp.secure = false), 488),
        (Rule::NoSrtp, with_sdp(|sdp| sdp.keys.clear()), 488),
        (
            Rule::NoSuite80,
            with_sdp(|sdp| sdp.keys = vec![Key::fresh(true).crypto(1)]),
            488,
        ),
        (
            Rule::NoCodec,
            with_sdp(|sdp| sdp.formats = vec![(3, "GSM/8000")]),
            488,
        ),
        (
            Rule::DuplicatePayloadType,
            with_sdp(|sdp| sdp.formats.push((101, "SILK/16000"))),
            488,
        ),
        (
            Rule::NullAddress,
            text("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"),
            488,
        ),
        (Rule::OneWayHold, text("a=sendrecv", "a=sendonly"), 488),
        (Rule::OneWayHold, text("a=sendrecv", "a=recvonly"), 488),
        (
            Rule::TimerTooShort,
            invite().with("Session-Expires", "60"),
            422,
        ),
    ];
    for (rule, message, status) in cases {
        assert_eq!(sbc.ask(&invite()).status(), Some(100), "nothing is wrong");
        assert_eq!(last_broken(&bench.twin.agent), []);
        let answer = sbc.ask(&message);
        assert_eq!(answer.status(), Some(status), "{rule}: {}", answer.start);
        assert!(last_broken(&bench.twin.agent).contains(&rule), "{rule}");
        let code = rule.refusal().and_then(|(_, _, code)| code);
        let reason = answer.header("Reason").expect("a Reason");
        assert!(reason.contains(&rule.to_string()), "{reason}");
        assert!(
            code.is_none_or(|code| reason.contains(&code.to_string())),
            "{rule}: {reason}"
        );
        match status {
            405 => assert!(!answer.header("Allow").unwrap_or("REFER").contains("REFER")),
            420 => assert!(answer.header("Unsupported").is_some()),
            422 => assert_eq!(answer.header("Min-SE"), Some("90")),
            _ => {}
        }
    }
    let answer = sbc.ask(&request("OPTIONS"));
    assert_eq!(answer.status(), Some(200));
    assert_eq!(last_broken(&bench.twin.agent), []);
}

#[test]
fn what_is_not_refused_is_remembered() {
    let bench = Bench::new();
    let sbc = bench.good();
    let via = |value: &str| {
        replace(
            invite(),
            "Via",
            &format!("{value}branch=z9hG4bK{}", super::agent::token()),
        )
    };
    let request_uri = |uri: &str| {
        let mut message = invite();
        message.start = format!("INVITE {uri} SIP/2.0");
        message
    };
    for (rule, message) in [
        (
            Rule::RequestName,
            request_uri("sip:+15550100@192.0.2.2;user=phone"),
        ),
        (
            Rule::RequestNumber,
            request_uri(&format!("sip:15550100@{PROXY};user=phone")),
        ),
        (
            Rule::RequestNumber,
            request_uri(&format!("sip:+15550100@{PROXY}")),
        ),
        (
            Rule::FromName,
            replace(invite(), "From", "<sip:+15550200@192.0.2.1>;tag=1"),
        ),
        (Rule::ViaName, via("SIP/2.0/TLS 192.0.2.1:5061;alias;")),
        (Rule::ViaAlias, via(&format!("SIP/2.0/TLS {SBC}:5061;"))),
        (Rule::NoProduct, {
            let mut message = invite();
            message.remove("X-MS-SBC");
            message
        }),
    ] {
        assert_eq!(sbc.ask(&message).status(), Some(100), "{rule}");
        assert_eq!(last_broken(&bench.twin.agent), [rule]);
    }
    let plain = format!(
        "SIP/2.0/TLS {SBC}:5061;branch=z9hG4bK{}",
        super::agent::token()
    );
    let options = replace(request("OPTIONS"), "Via", &plain);
    assert_eq!(sbc.ask(&options).status(), Some(200));
    assert_eq!(last_broken(&bench.twin.agent), [Rule::ViaAlias]);
}

#[test]
fn certificates_are_looked_at() {
    let bench = Bench::new();
    let wildcard = bench.connect(&bench.identity("*.example.com", &["*.example.com"]));
    assert_eq!(wildcard.ask(&invite()).status(), Some(100));
    let deeper = replace(
        invite(),
        "Contact",
        "<sip:+1@one.sbc.example.com:5061;transport=tls>",
    );
    assert_eq!(wildcard.ask(&deeper).status(), Some(403));
    let common_name = bench.connect(&bench.identity(SBC, &[]));
    assert_eq!(common_name.ask(&invite()).status(), Some(100));
    let other = bench.connect(&bench.identity("other.example.com", &["other.example.com"]));
    assert_eq!(other.ask(&invite()).status(), Some(403));

    let stranger = Authority::new("Stranger").expect("an authority");
    let wanted = Wanted {
        common_name: SBC,
        alternatives: &[SBC],
        usages: &[],
    };
    let foreign = stranger.issue(Owner::Sbc, &wanted).expect("a certificate");
    for identity in [None, Some(&foreign)] {
        let config = bench.client(identity);
        let to = bench.twin.address(0);
        let served = Connection::open(&Door::here(), None, to, PROXY, &config).map(|connection| {
            let sbc = Sbc::new(connection);
            let _ = sbc.link.send(&request("OPTIONS"));
            sbc.answers.recv_timeout(SOON).is_ok()
        });
        assert!(!served.unwrap_or(false), "{identity:?}");
    }
}

#[test]
fn tls_1_1_is_turned_down_and_1_2_is_taken() {
    let bench = Bench::new();
    let mut stream = TcpStream::connect(bench.twin.address(0)).expect("connected");
    stream.write_all(&tls::hello_of_tls_1_1()).expect("written");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
    assert_eq!(answer.get(6), Some(&70), "protocol_version");

    let roots = bench.authority.roots().expect("roots");
    let identity = bench.identity(SBC, &[SBC]);
    for suite in tls::SUITES {
        let config = tls::client(Some(&identity), &roots, &[&TLS12], &[suite]).expect("a client");
        let to = bench.twin.address(0);
        let connection =
            Connection::open(&Door::here(), None, to, PROXY, &config).expect("a connection");
        assert_eq!(connection.suite, Some(suite));
    }
    let other = CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256;
    let config = tls::client(Some(&identity), &roots, &[&TLS12], &[other]).expect("a client");
    let to = bench.twin.address(0);
    let unlisted = Connection::open(&Door::here(), None, to, PROXY, &config);
    assert!(unlisted.is_err(), "a suite that is not listed");
}

/// A plain endpoint and the twin, joined by a connection, for what happens inside of calls.
fn teams_call(bench: &Bench) -> (Agent, Call, Call) {
    let sbc = Agent::new(
        "the SBC",
        Manner::Teams,
        Door::here(),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
    );
    let config = bench.client(Some(&bench.identity(SBC, &[SBC])));
    let to = bench.twin.address(0);
    let connection =
        Connection::open(&Door::here(), None, to, PROXY, &config).expect("a connection");
    let (reader, agent) = (Arc::clone(&connection), sbc.clone());
    thread::spawn(move || reader.follow(&agent));
    let mut invite = Twin::invite("+15550100", "+15550200", PROXY);
    invite.contact = format!("sip:+15550200@{SBC}:5061;transport=tls");
    let link = Link::Tls(connection);
    let mark = bench.twin.agent.mark();
    let calling = sbc.invite(&link, &invite).expect("sent");
    let ringing = bench
        .twin
        .agent
        .incoming(mark, "+15550100", SOON)
        .expect("a call");
    let answering = thread::spawn(move || ringing.answer());
    let caller = calling.answered(SOON).expect("answered");
    let callee = answering.join().expect("no panic").expect("acknowledged");
    (sbc, caller, callee)
}

#[test]
fn a_call_is_heard_and_media_that_moves_is_not_followed() {
    let bench = Bench::new();
    let (_sbc, caller, callee) = teams_call(&bench);
    super::media::both_hear(("the SBC", &caller.media), ("Teams", &callee.media))
        .expect("both hear each other");
    caller.renew_keys();
    caller.reinvite(&[], |_| {}).expect("new keys");
    super::media::both_hear(("the SBC", &caller.media), ("Teams", &callee.media))
        .expect("with new keys");
    let elsewhere = "127.0.0.9:9000".parse().expect("an address");
    caller
        .reinvite(&[], |description| description.address = elsewhere)
        .expect("taken");
    assert!(last_reinvite(&bench.twin.agent).contains(&Rule::MediaMoved));
    callee
        .media
        .hears(&caller.media, "Teams")
        .expect("still heard");
    caller
        .media
        .hears(&callee.media, "the SBC")
        .expect("media still goes to the first address");
    let held = caller.reinvite(&[], |description| description.direction = "inactive");
    let answer = Sdp::of(&held.expect("taken").body).expect("an answer");
    assert_eq!(answer.direction(), "inactive");
    let refused = caller.reinvite(&[], |description| description.direction = "sendonly");
    assert!(refused.is_err());
    caller.bye().expect("hung up");
    callee.wait_bye(SOON).expect("gone at Teams");
}

fn last_reinvite(agent: &Agent) -> Vec<Rule> {
    let arrivals = agent.arrivals(0);
    let last = arrivals
        .iter()
        .rev()
        .find(|arrival| arrival.message.is_request() && arrival.message.method() == "INVITE");
    last.expect("an INVITE").broken.clone()
}

#[test]
fn a_request_that_leaves_the_route_is_remembered() {
    let bench = Bench::new();
    let (_sbc, caller, _callee) = teams_call(&bench);
    let routed = caller.request("INFO", &[("Route", "<sip:elsewhere.example;lr>")], None);
    assert_eq!(routed.expect("an answer").status(), Some(405));
    assert!(last_broken(&bench.twin.agent).contains(&Rule::RouteSet));
}

#[test]
fn the_ways_to_fail() {
    let bench = Bench::new();
    let agent = &bench.twin.agent;
    let sbc = bench.good();
    agent.set_mode(None, Mode::Refuses(503));
    let answer = sbc.ask(&invite());
    assert_eq!(answer.status(), Some(503));
    assert_eq!(answer.header("Retry-After"), Some(RETRY_AFTER));
    assert_eq!(sbc.ask(&request("OPTIONS")).status(), Some(503));
    agent.set_mode(None, Mode::Silent);
    let mark = agent.mark();
    sbc.link.send(&invite()).expect("sent");
    agent
        .wait(mark, SOON, "the INVITE", |arrival| {
            arrival.message.method() == "INVITE"
        })
        .expect("it came");
    agent.set_mode(None, Mode::Normal);
    assert_eq!(
        sbc.ask(&request("OPTIONS")).method(),
        "OPTIONS",
        "the silence has no answer"
    );
    agent.set_mode(None, Mode::Drops);
    sbc.link.send(&invite()).expect("sent");
    assert!(sbc.answers.recv_timeout(SOON).is_err());
    assert!(sbc.link.connection().expect("TLS").is_closed());
    bench.twin.set_open(0, false);
    let config = bench.client(Some(&bench.identity(SBC, &[SBC])));
    let to = bench.twin.address(0);
    assert!(Connection::open(&Door::here(), None, to, PROXY, &config).is_err());
}
