//! What an agent does with what comes.

use std::time::Instant;

use rand::{Rng, rngs::StdRng};

use super::{Agent, AgentDialog, Plan, key};
use crate::{
    call::dialog::Dialog,
    sip::{
        Flow, HeaderName, Method, Request, Response, SuccessRetransmission, Text, TransactionEvent,
        TransactionId,
    },
};

impl Agent {
    pub(super) fn on_event(&mut self, now: Instant, event: TransactionEvent, random: &mut StdRng) {
        match event {
            TransactionEvent::Request { id, flow, request } => {
                self.on_request(now, id, request, flow, random);
            }
            TransactionEvent::Ack { request, .. } => self.on_ack(&request),
            TransactionEvent::Cancel { invite, .. } => {
                if let Some((request, _)) = self.servers.remove(&invite) {
                    self.release_invited(invite);
                    let response = Response::to_request(&request, 487, Some("c"));
                    let _ = self.layer.respond(now, invite, &response);
                }
            }
            TransactionEvent::Response { id, flow, response } => {
                self.on_response(now, id, &response, &flow, random);
            }
            TransactionEvent::Timeout { id } | TransactionEvent::TransportFailed { id } => {
                self.failed(now, id, 408);
            }
            TransactionEvent::Terminated { id } => {
                self.clients.remove(&id);
                self.servers.remove(&id);
            }
            TransactionEvent::NoAck { .. } => {}
        }
    }

    fn on_request(
        &mut self,
        now: Instant,
        id: TransactionId,
        request: Request,
        flow: Flow,
        random: &mut StdRng,
    ) {
        let tag = request.headers.to().unwrap().tag();
        let Some(tag) = tag else {
            return self.on_call(now, id, request, flow, random);
        };
        let from = request.headers.from().unwrap().tag().unwrap();
        let key = key(&tag, &from);
        let Some(state) = self.dialogs.get_mut(&key) else {
            let response = Response::to_request(&request, 481, None);
            let _ = self.layer.respond(now, id, &response);
            return;
        };
        let number = request.headers.cseq().unwrap().number;
        let status = match request.method {
            _ if !state.dialog.in_order(number) => 500,
            Method::Bye => {
                state.is_over = true;
                state.accepted = None;
                200
            }
            _ if state.is_over => 481,
            Method::Invite if state.inviting || state.accepted.is_some() => 491,
            Method::Invite if state.invited.is_some() => 500,
            Method::Invite => {
                state.invited = Some(id);
                self.servers.insert(id, (request, flow));
                let status = [200, 200, 200, 488, 500][random.random_range(0..5)];
                self.later(now, random, 3_000, Plan::Answer(id, status, key));
                return;
            }
            Method::Info => {
                self.seen.infos += 1;
                200
            }
            Method::Notify => {
                self.seen.transferred += u64::from(request.body.starts_with(b"SIP/2.0 200"));
                200
            }
            _ => 405,
        };
        if status == 491 {
            self.seen.glares += 1;
        }
        let response = Response::to_request(&request, status, None);
        let _ = self.layer.respond(now, id, &response);
    }

    /// A new call for us: one of several things happens with it.
    fn on_call(
        &mut self,
        now: Instant,
        id: TransactionId,
        request: Request,
        flow: Flow,
        random: &mut StdRng,
    ) {
        self.servers.insert(id, (request, flow));
        let forks = random.random_range(1..=3);
        let tags: Vec<Text> = (0..forks)
            .map(|_| {
                self.next += 1;
                Text::from(format!("b{}-{:x}", self.next, random.random::<u32>()))
            })
            .collect();
        for tag in &tags {
            if random.random_bool(0.7) {
                let status = [180, 183][random.random_range(0..2)];
                self.later(now, random, 2_000, Plan::Answer(id, status, tag.clone()));
            }
        }
        let fate = random.random_range(0..10);
        match fate {
            0 => {}
            1 => self.later(now, random, 4_000, Plan::Answer(id, 486, tags[0].clone())),
            2 => self.later(now, random, 4_000, Plan::Answer(id, 503, tags[0].clone())),
            _ => {
                for tag in &tags {
                    self.later(now, random, 4_000, Plan::Answer(id, 200, tag.clone()));
                }
            }
        }
    }

    /// Answers an INVITE. Within a dialog `tag` is its key.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        id: TransactionId,
        status: u16,
        tag: &Text,
        random: &mut StdRng,
    ) {
        let Some((request, flow)) = self.servers.get(&id).cloned() else {
            return;
        };
        let inside = request.headers.to().unwrap().tag().is_some();
        let ours = (!inside).then(|| tag.as_str());
        let mut response = Response::to_request(&request, status, ours)
            .with(HeaderName::Contact, format!("<sip:{}>", self.local));
        if status == 200 || status == 183 {
            response = response.with_body("application/sdp", self.body(random));
        }
        let target = self.layer.response_target(id);
        if self.layer.respond(now, id, &response).is_err() || status < 200 {
            return;
        }
        // Another fork may still answer; then this INVITE has two dialogs.
        if status >= 300 || inside {
            self.servers.remove(&id);
        }
        if inside {
            self.release_invited(id);
        }
        if status >= 300 {
            self.seen.refused += 1;
            return;
        }
        let key = if inside {
            tag.clone()
        } else {
            self.seen.answered += 1;
            let dialog = Dialog::accepted(&request, tag, &flow).unwrap();
            let key = key(tag, dialog.remote_tag());
            self.open(now, key.clone(), dialog, random);
            key
        };
        let number = request.headers.cseq().unwrap().number;
        let success = SuccessRetransmission::new(
            now,
            self.layer.settings(),
            target.unwrap(),
            response.to_bytes(),
        );
        self.plans
            .push((success.next_timeout(), Plan::Resend(key.clone())));
        if let Some(state) = self.dialogs.get_mut(&key) {
            state.accepted = Some((number, success));
        }
    }

    fn release_invited(&mut self, id: TransactionId) {
        for state in self.dialogs.values_mut() {
            if state.invited == Some(id) {
                state.invited = None;
            }
        }
    }

    /// A new confirmed dialog, and what is to happen in it.
    fn open(&mut self, now: Instant, key: Text, dialog: Dialog, random: &mut StdRng) {
        for _ in 0..random.random_range(0..3) {
            let offer = random.random_bool(0.7);
            self.later(now, random, 15_000, Plan::Reinvite(key.clone(), offer));
        }
        if random.random_bool(0.4) {
            self.later(now, random, 15_000, Plan::Info(key.clone()));
        }
        if random.random_bool(0.2) {
            self.later(now, random, 15_000, Plan::Refer(key.clone()));
        }
        let most = if random.random_bool(0.2) { 300 } else { 40_000 };
        self.later(now, random, most, Plan::Bye(key.clone()));
        self.dialogs.insert(
            key,
            AgentDialog {
                dialog,
                is_over: false,
                accepted: None,
                ack: None,
                inviting: false,
                invited: None,
            },
        );
    }

    fn on_ack(&mut self, request: &Request) {
        let (Some(ours), Some(theirs)) = (
            request.headers.to().unwrap().tag(),
            request.headers.from().unwrap().tag(),
        ) else {
            return;
        };
        let number = request.headers.cseq().unwrap().number;
        if let Some(state) = self.dialogs.get_mut(&key(&ours, &theirs))
            && state
                .accepted
                .as_ref()
                .is_some_and(|(waiting, _)| *waiting == number)
        {
            state.accepted = None;
        }
    }

    fn on_response(
        &mut self,
        now: Instant,
        id: TransactionId,
        response: &Response,
        flow: &Flow,
        random: &mut StdRng,
    ) {
        if response.is_provisional() {
            return;
        }
        let Some((request, _)) = self.clients.get(&id).cloned() else {
            return;
        };
        if request.method != Method::Invite || !response.is_success() {
            self.failed(now, id, response.status);
            return;
        }
        let ours = request.headers.from().unwrap().tag().unwrap();
        let theirs = response.headers.to().unwrap().tag().unwrap();
        let key = key(&ours, &theirs);
        if !self.dialogs.contains_key(&key) {
            self.seen.answered += 1;
            let dialog = Dialog::requested(&request, response, flow).unwrap();
            self.open(now, key.clone(), dialog, random);
        }
        let number = response.headers.cseq().unwrap().number;
        let body = self.body(random);
        let (target, sent_by, cancelled) = (self.target(), self.sent_by(), self.cancelled);
        let Some(state) = self.dialogs.get_mut(&key) else {
            return;
        };
        match &state.ack {
            Some((known, target, bytes)) if *known == number => {
                self.layer.transmit(target.clone(), bytes.clone());
                return;
            }
            _ => {}
        }
        state.inviting = false;
        if number > 1 {
            self.seen.reinvited += 1;
        }
        let mut ack = state.dialog.request_numbered(Method::Ack, number);
        if request.body.is_empty() && random.random_bool(0.95) {
            ack = ack.with_body("application/sdp", body);
        }
        let bytes = self.layer.acknowledge(target.clone(), &sent_by, ack);
        state.ack = Some((number, target, bytes));
        if cancelled && number == 1 {
            self.bye(now, &key);
        }
    }

    /// A request of ours has failed, or was no INVITE.
    fn failed(&mut self, now: Instant, id: TransactionId, status: u16) {
        let Some((request, Some(key))) = self.clients.get(&id).cloned() else {
            self.seen.refused += 1;
            return;
        };
        if let Some(state) = self.dialogs.get_mut(&key) {
            if request.method == Method::Invite {
                state.inviting = false;
            }
            if matches!(status, 408 | 481) && !state.is_over {
                self.bye(now, &key);
            }
        }
    }
}
