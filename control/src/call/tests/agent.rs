//! A SIP user agent for random calls: it speaks through the transaction layer, decides by chance,
//! and keeps the rules of RFC 3261 where the core may rely on them.

mod hearing;

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, rngs::StdRng};

use super::bench::{address, sdp};
use crate::{
    call::dialog::Dialog,
    sip::{
        Flow, HeaderName, Limits, Message, Method, Request, SentBy, SuccessRetransmission,
        SuccessStep, Target, Text, TransactionId, TransactionLayer, TransactionOutput,
        TransactionSettings, parse_shared,
    },
};

/// What an agent does later.
#[derive(Clone, Debug)]
enum Plan {
    Cancel,
    Answer(TransactionId, u16, Text),
    Reinvite(Text, bool),
    Info(Text),
    Refer(Text),
    Bye(Text),
    Resend(Text),
}

/// What happened to the agents' calls, to see that the chances reach everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub answered: u64,
    pub refused: u64,
    pub cancelled: u64,
    pub reinvited: u64,
    pub glares: u64,
    pub infos: u64,
    pub byes: u64,
    pub referred: u64,
    pub transferred: u64,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.cancelled += other.cancelled;
        self.reinvited += other.reinvited;
        self.glares += other.glares;
        self.infos += other.infos;
        self.byes += other.byes;
        self.referred += other.referred;
        self.transferred += other.transferred;
    }
}

pub struct Agent {
    peer: &'static str,
    local: SocketAddr,
    core: SocketAddr,
    layer: TransactionLayer,
    pub dialogs: HashMap<Text, AgentDialog>,
    /// INVITEs that wait for our answer.
    servers: HashMap<TransactionId, (Request, Flow)>,
    clients: HashMap<TransactionId, (Request, Option<Text>)>,
    plans: Vec<(Instant, Plan)>,
    cancelled: bool,
    invite: Option<TransactionId>,
    next: u32,
    pub seen: Seen,
}

/// A confirmed dialog, by our tag and the peer's.
pub struct AgentDialog {
    dialog: Dialog,
    pub is_over: bool,
    accepted: Option<(u32, SuccessRetransmission)>,
    ack: Option<(u32, Target, Bytes)>,
    inviting: bool,
    invited: Option<TransactionId>,
}

impl Agent {
    pub fn new(peer: &'static str, core: &str, seed: u64) -> Self {
        Self {
            peer,
            local: address(peer),
            core: address(core),
            layer: TransactionLayer::new(TransactionSettings::default(), seed),
            dialogs: HashMap::new(),
            servers: HashMap::new(),
            clients: HashMap::new(),
            plans: Vec::new(),
            cancelled: false,
            invite: None,
            next: 0,
            seen: Seen::default(),
        }
    }

    fn sent_by(&self) -> SentBy {
        SentBy {
            host: self.local.ip().to_string().into(),
            port: Some(self.local.port()),
        }
    }

    fn target(&self) -> Target {
        Target::udp(self.local, self.core)
    }

    fn body(&mut self, random: &mut StdRng) -> Bytes {
        let extra = ["", "a=sendonly\r\n", "a=inactive\r\n", "a=recvonly\r\n"];
        sdp(
            self.peer,
            random.random_range(2000..3000) * 2,
            extra[random.random_range(0..extra.len())],
        )
    }

    fn later(&mut self, now: Instant, random: &mut StdRng, most: u64, plan: Plan) {
        let at = now + Duration::from_millis(random.random_range(0..most));
        self.plans.push((at, plan));
    }

    /// Calls a number.
    pub fn call(&mut self, now: Instant, number: &str, random: &mut StdRng) {
        let tag = format!("a{:x}", random.random::<u32>());
        let mut request = Request::new(
            Method::Invite,
            format!("sip:{number}@{}", self.core).parse().unwrap(),
        )
        .with(HeaderName::MaxForwards, 70)
        .with(
            HeaderName::From,
            format!("<sip:+49@{}>;tag={tag}", self.local),
        )
        .with(HeaderName::To, format!("<sip:{number}@{}>", self.core))
        .with(HeaderName::CallId, format!("{:x}", random.random::<u64>()))
        .with(HeaderName::CSeq, "1 INVITE")
        .with(HeaderName::Contact, format!("<sip:{}>", self.local));
        if random.random_bool(0.85) {
            request = request.with_body("application/sdp", self.body(random));
        }
        let (target, sent_by) = (self.target(), self.sent_by());
        let id = self
            .layer
            .request(now, target, &sent_by, request.clone())
            .unwrap();
        self.clients.insert(id, (request, None));
        self.invite = Some(id);
        if random.random_bool(0.3) {
            self.later(now, random, 6_000, Plan::Cancel);
        }
    }

    /// Everything to be sent, with what must be done first done.
    pub fn poll(&mut self, now: Instant, random: &mut StdRng) -> Vec<(Target, Bytes)> {
        let mut out = Vec::new();
        while let Some(output) = self.layer.poll() {
            match output {
                TransactionOutput::Transmit { target, bytes } => out.push((target, bytes)),
                TransactionOutput::Event(event) => self.on_event(now, event, random),
            }
        }
        out
    }

    pub fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &Bytes) {
        let message: Message = parse_shared(bytes, &Limits::default()).unwrap();
        self.layer
            .receive(now, &Flow::udp(self.local, from), message);
    }

    pub fn next_timeout(&mut self) -> Option<Instant> {
        let plan = self.plans.iter().map(|(at, _)| *at).min();
        [plan, self.layer.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn timeout(&mut self, now: Instant, random: &mut StdRng) {
        self.layer.timeout(now);
        let mut due = Vec::new();
        self.plans.retain(|(at, plan)| {
            if *at <= now {
                due.push(plan.clone());
            }
            *at > now
        });
        for plan in due {
            self.act(now, plan, random);
        }
    }

    pub fn is_idle(&self) -> bool {
        self.layer.is_empty() && self.plans.is_empty() && self.servers.is_empty()
    }

    fn act(&mut self, now: Instant, plan: Plan, random: &mut StdRng) {
        match plan {
            Plan::Cancel => {
                if let Some(id) = self.invite
                    && self.layer.cancel(now, id, None).is_ok()
                {
                    self.cancelled = true;
                    self.seen.cancelled += 1;
                }
            }
            Plan::Answer(id, status, tag) => self.answer(now, id, status, &tag, random),
            Plan::Reinvite(key, offer) => self.reinvite(now, &key, offer, random),
            Plan::Info(key) => {
                let request = self.inside(&key, Method::Info).map(|request| {
                    request.with_body("application/dtmf-relay", "Signal=1\r\nDuration=100\r\n")
                });
                self.send(now, &key, request);
            }
            Plan::Refer(key) => {
                let to = format!("<sip:{}@{}>", self.target_number(), self.core);
                let request = self
                    .inside(&key, Method::Refer)
                    .map(|request| request.with(HeaderName::ReferTo, to));
                if self.send(now, &key, request).is_some() {
                    self.seen.referred += 1;
                }
            }
            Plan::Bye(key) => self.bye(now, &key),
            Plan::Resend(key) => self.resend(now, &key),
        }
    }

    /// A number that calls of this agent are routed to.
    fn target_number(&self) -> &'static str {
        if self.peer == super::bench::CARRIER {
            "+15557777"
        } else {
            "+447777"
        }
    }

    fn inside(&mut self, key: &Text, method: Method) -> Option<Request> {
        let local = self.local;
        let state = self.dialogs.get_mut(key).filter(|state| !state.is_over)?;
        let request = state.dialog.request(method);
        Some(request.with(HeaderName::Contact, format!("<sip:{local}>")))
    }

    fn send(&mut self, now: Instant, key: &Text, request: Option<Request>) -> Option<()> {
        let request = request?;
        let (target, sent_by) = (self.target(), self.sent_by());
        let id = self
            .layer
            .request(now, target, &sent_by, request.clone())
            .unwrap();
        self.clients.insert(id, (request, Some(key.clone())));
        Some(())
    }

    fn bye(&mut self, now: Instant, key: &Text) {
        let waits = self
            .dialogs
            .get(key)
            .is_some_and(|state| state.accepted.is_some());
        if waits {
            // Not before the ACK (RFC 3261 §15).
            self.plans
                .push((now + Duration::from_millis(700), Plan::Bye(key.clone())));
            return;
        }
        let request = self.inside(key, Method::Bye);
        if self.send(now, key, request).is_some() {
            self.seen.byes += 1;
            if let Some(state) = self.dialogs.get_mut(key) {
                state.is_over = true;
            }
        }
    }

    fn reinvite(&mut self, now: Instant, key: &Text, offer: bool, random: &mut StdRng) {
        let free = self.dialogs.get(key).is_some_and(|state| {
            !state.inviting && state.invited.is_none() && state.accepted.is_none()
        });
        if !free {
            return;
        }
        let body = self.body(random);
        let request = self.inside(key, Method::Invite).map(|request| {
            if offer {
                request.with_body("application/sdp", body)
            } else {
                request
            }
        });
        if self.send(now, key, request).is_some()
            && let Some(state) = self.dialogs.get_mut(key)
        {
            state.inviting = true;
        }
    }

    fn resend(&mut self, now: Instant, key: &Text) {
        let Some(state) = self.dialogs.get_mut(key) else {
            return;
        };
        let Some((_, success)) = &mut state.accepted else {
            return;
        };
        match success.timeout(now) {
            SuccessStep::NoAck => {
                state.accepted = None;
                self.bye(now, key);
                return;
            }
            SuccessStep::Transmit { target, bytes } => self.layer.transmit(target, bytes),
            SuccessStep::Wait => {}
        }
        self.plans
            .push((success.next_timeout(), Plan::Resend(key.clone())));
    }
}

fn key(ours: &str, theirs: &str) -> Text {
    format!("{ours} {theirs}").into()
}
