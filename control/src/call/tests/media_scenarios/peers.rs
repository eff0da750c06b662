//! Two SIP user agents in text around a core, each able to say and check single messages.

use std::{collections::VecDeque, net::SocketAddr, path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use relay_user::media::{CallMedia, MediaInterface, MemoryMedia};

use crate::{
    call::{CallSnapshot, Core, Output},
    config,
    sip::{Flow, Transport},
};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Caller,
    Callee,
}

/// A message as text.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) start: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Message {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        Self {
            start: lines.next().unwrap().to_owned(),
            headers: lines
                .map(|line| line.split_once(':').unwrap())
                .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: &str) -> &str {
        match self.headers.iter().find(|(header, _)| header == name) {
            Some((_, value)) => value,
            None => panic!("no {name} in {self:?}"),
        }
    }

    fn contact_uri(&self) -> String {
        let contact = self.header("contact");
        let inner = contact.split_once('<').unwrap().1;
        inner.split_once('>').unwrap().0.to_owned()
    }

    fn sequence(&self) -> u32 {
        let value = self.header("cseq");
        value.split_once(' ').unwrap().0.parse().unwrap()
    }
}

/// One user agent and its dialog.
#[derive(Debug)]
struct Agent {
    address: SocketAddr,
    trunk: SocketAddr,
    call_id: String,
    /// From and To of requests that it sends in the dialog.
    from: String,
    to: String,
    /// Our Contact.
    remote_uri: String,
    sequence: u32,
    branches: u32,
    inbox: VecDeque<Message>,
}

/// A core between a caller (`carrier`) and a callee.
pub(super) struct Scenario {
    core: Core<MemoryMedia>,
    media: MemoryMedia,
    now: Instant,
    agents: [Agent; 2],
    /// The INVITE that each agent has received last.
    invites: [Option<Message>; 2],
}

/// `srtp` of the caller's trunk and the callee's, and what else is to stand in each.
pub(super) fn scenario(caller: &str, callee: &str) -> Scenario {
    let text = format!(
        r#"
[[interface]]
name = "outside"
addresses = ["198.51.100.1"]
[[interface]]
name = "inside"
addresses = ["203.0.113.1"]
[[trunk]]
name = "carrier"
interface = "outside"
transport = "udp"
listen = "198.51.100.1:5060"
addresses = ["198.51.100.2:5060"]
allowed_sources = ["198.51.100.2/32"]
{caller}
[[trunk]]
name = "contact-centre"
interface = "inside"
transport = "udp"
listen = "203.0.113.1:5060"
addresses = ["203.0.113.2:5060"]
allowed_sources = ["203.0.113.2/32"]
{callee}
[[route]]
trunk = "contact-centre"
"#
    );
    let settings = config::parse(&text, Path::new("scenario.toml"))
        .unwrap()
        .with_lookups(|_| Vec::new());
    let interface = |name: &str, address: &str| MediaInterface {
        name: name.to_owned(),
        addresses: vec![address.parse().unwrap()],
    };
    let media = MemoryMedia::new(
        vec![
            interface("outside", "198.51.100.1"),
            interface("inside", "203.0.113.1"),
        ],
        20000..=20099,
    );
    let agent = |address: &str, trunk: &str| Agent {
        address: address.parse().unwrap(),
        trunk: trunk.parse().unwrap(),
        call_id: String::new(),
        from: String::new(),
        to: String::new(),
        remote_uri: String::new(),
        sequence: 0,
        branches: 0,
        inbox: VecDeque::new(),
    };
    Scenario {
        core: Core::new(Arc::new(settings), media.clone(), [7; 32]),
        media,
        now: Instant::now(),
        agents: [
            agent("198.51.100.2:5060", "198.51.100.1:5060"),
            agent("203.0.113.2:5060", "203.0.113.1:5060"),
        ],
        invites: [None, None],
    }
}

impl Who {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

impl Scenario {
    fn agent(&mut self, who: Who) -> &mut Agent {
        &mut self.agents[who as usize]
    }

    fn say(&mut self, who: Who, text: &str) {
        let agent = self.agent(who);
        let flow = Flow {
            transport: Transport::Udp,
            local: agent.trunk,
            remote: agent.address,
            connection: None,
            server_name: None,
            own_name: None,
        };
        self.core
            .receive(self.now, &flow, &Bytes::from(text.to_owned()));
        while let Some(output) = self.core.poll() {
            let Output::Transmit { target, bytes } = output else {
                continue;
            };
            let message = Message::of(&bytes);
            let agent = self
                .agents
                .iter_mut()
                .find(|agent| agent.address == target.remote)
                .expect("every message goes to one of the two");
            assert_eq!(target.local, agent.trunk);
            if !message.start.starts_with("SIP/2.0 100") {
                agent.inbox.push_back(message);
            }
        }
    }

    /// The next message for an agent.
    pub(super) fn hear(&mut self, who: Who) -> Message {
        self.agent(who)
            .inbox
            .pop_front()
            .unwrap_or_else(|| panic!("{who:?} hears nothing"))
    }

    pub(super) fn hear_status(&mut self, who: Who, status: u16) -> Message {
        let message = self.hear(who);
        assert!(
            message.start.starts_with(&format!("SIP/2.0 {status} ")),
            "{who:?} hears {status}: {message:?}"
        );
        message
    }

    pub(super) fn hear_request(&mut self, who: Who, method: &str) -> Message {
        let message = self.hear(who);
        assert!(
            message.start.starts_with(&format!("{method} ")),
            "{who:?} hears {method}: {message:?}"
        );
        if method == "INVITE" {
            let agent = self.agent(who);
            agent.remote_uri = message.contact_uri();
            agent.call_id = message.header("call-id").to_owned();
            if agent.from.is_empty() {
                agent.from = format!("{};tag=callee", message.header("to"));
                agent.to = message.header("from").to_owned();
            }
            self.invites[who as usize] = Some(message.clone());
        }
        message
    }

    pub(super) fn hears_nothing(&mut self, who: Who) {
        assert!(
            self.agent(who).inbox.is_empty(),
            "{:?}",
            self.agent(who).inbox
        );
    }

    fn request(&mut self, who: Who, method: &str, sequence: u32, body: &str) {
        let agent = self.agent(who);
        agent.branches += 1;
        let text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{who:?}{}\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {sequence} {method}\r\n\
             Max-Forwards: 70\r\nContact: <sip:agent@{}>\r\n{}",
            agent.remote_uri,
            agent.address,
            agent.branches,
            agent.from,
            agent.to,
            agent.call_id,
            agent.address,
            with_body(body),
        );
        self.say(who, &text);
    }

    /// The caller's first INVITE.
    pub(super) fn call(&mut self, body: &str) {
        let caller = self.agent(Who::Caller);
        caller.call_id = "scenario@198.51.100.2".to_owned();
        caller.from = "<sip:+15551000@198.51.100.2>;tag=caller".to_owned();
        caller.to = "<sip:+15552000@198.51.100.1>".to_owned();
        caller.remote_uri = "sip:+15552000@198.51.100.1".to_owned();
        self.invite(Who::Caller, body);
    }

    /// An INVITE of an agent in its dialog.
    pub(super) fn invite(&mut self, who: Who, body: &str) {
        self.agent(who).sequence += 1;
        let sequence = self.agent(who).sequence;
        self.request(who, "INVITE", sequence, body);
    }

    /// Answers the INVITE that an agent has received last.
    pub(super) fn respond(&mut self, who: Who, status: u16, body: &str) {
        let invite = self.invites[who as usize].clone().unwrap();
        let vias: String = invite
            .all("via")
            .map(|via| format!("Via: {via}\r\n"))
            .collect();
        let agent = self.agent(who);
        let to = invite.header("to");
        let to = if to.contains("tag=") {
            to.to_owned()
        } else {
            format!("{to};tag=callee")
        };
        let text = format!(
            "SIP/2.0 {status} Whatever\r\n{vias}From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:agent@{}>\r\n{}",
            invite.header("from"),
            invite.header("call-id"),
            invite.header("cseq"),
            agent.address,
            with_body(body),
        );
        self.say(who, &text);
    }

    /// Acknowledges a 2xx.
    pub(super) fn acknowledge(&mut self, who: Who, response: &Message, body: &str) {
        let agent = self.agent(who);
        agent.remote_uri = response.contact_uri();
        response.header("to").clone_into(&mut agent.to);
        self.request(who, "ACK", response.sequence(), body);
    }

    /// A call with `offer` and `answer`, up to the ACK on both sides: gives what the callee was
    /// offered and what the caller was answered.
    pub(super) fn connect(&mut self, offer: &str, answer: &str) -> (String, String) {
        self.call(offer);
        let invite = self.hear_request(Who::Callee, "INVITE");
        self.respond(Who::Callee, 200, answer);
        let accepted = self.hear_status(Who::Caller, 200);
        self.acknowledge(Who::Caller, &accepted, "");
        self.hear_request(Who::Callee, "ACK");
        (invite.body, accepted.body)
    }

    /// A re-INVITE by `who` that is answered with `answer`: gives what the other side was offered
    /// and what `who` was answered.
    pub(super) fn renegotiate(&mut self, who: Who, offer: &str, answer: &str) -> (String, String) {
        self.invite(who, offer);
        let invite = self.hear_request(who.other(), "INVITE");
        self.respond(who.other(), 200, answer);
        let accepted = self.hear_status(who, 200);
        self.acknowledge(who, &accepted, "");
        self.hear_request(who.other(), "ACK");
        (invite.body, accepted.body)
    }

    /// A re-INVITE by `who` that the other side refuses: gives what `who` is told.
    pub(super) fn refused_by_other(&mut self, who: Who, offer: &str, status: u16) -> Message {
        self.invite(who, offer);
        self.hear_request(who.other(), "INVITE");
        self.respond(who.other(), status, "");
        self.hear_request(who.other(), "ACK");
        self.hear_status(who, status)
    }

    /// The only call's media, as the media plane was told.
    pub(super) fn media(&self) -> CallMedia {
        let calls = self.media.calls();
        assert_eq!(calls.len(), 1);
        calls.into_values().next().unwrap()
    }

    /// Which streams flow: from the caller, from the callee.
    pub(super) fn flows(&self) -> [bool; 2] {
        self.media().streams.map(|stream| stream.active)
    }

    pub(super) fn snapshot(&self) -> CallSnapshot {
        self.core.calls().remove(0)
    }

    pub(super) fn reserved_ports(&self) -> usize {
        self.media.reserved_ports()
    }

    pub(super) fn has_no_call(&self) -> bool {
        self.core.calls().is_empty() && self.media.calls().is_empty()
    }

    /// BYE by `who`, and the other side's 200: nothing is left.
    pub(super) fn hang_up(&mut self, who: Who) {
        self.agent(who).sequence += 1;
        let sequence = self.agent(who).sequence;
        self.request(who, "BYE", sequence, "");
        self.hear_status(who, 200);
        let bye = self.hear_request(who.other(), "BYE");
        self.invites[who.other() as usize] = Some(bye);
        self.respond(who.other(), 200, "");
        assert!(self.has_no_call());
        assert_eq!(self.reserved_ports(), 0);
    }
}

fn with_body(body: &str) -> String {
    if body.is_empty() {
        "Content-Length: 0\r\n\r\n".to_owned()
    } else {
        format!(
            "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}
