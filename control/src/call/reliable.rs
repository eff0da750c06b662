//! Provisional responses to a caller that are sent until it acknowledges them (RFC 3262 §3).
//!
//! One at a time is on its way. The 2xx waits for the PRACK of one that bears an answer. After
//! another final response none is sent again, but the PRACK of the last one may still come.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use rand::Rng;
use relay_user::media::MediaPlane;

use super::{
    Core, Side,
    core::parse_tag,
    headers::{SDP, is_sdp},
    invite::Refusal,
    model::{Call, Setup},
    timers::{Due, TimerKey},
    trunk::Trunk,
};
use crate::sip::{
    Flow, HeaderName, Method, Request, Response, SuccessRetransmission, SuccessStep, TransactionId,
};

/// The most provisional responses that wait for the one before.
const WAITING: usize = 16;
/// How often RSeq may go up from where it begins (RFC 3262 §3).
const FIRST_NUMBERS: u32 = 1 << 30;
/// How many responses to INVITEs that are answered wait for their PRACKs.
const LATE: usize = 1 << 16;

/// Reliable provisional responses to one INVITE.
#[derive(Debug)]
pub(super) struct Reliable {
    /// RSeq of the last one.
    number: u32,
    sent: Option<Sent>,
    queue: VecDeque<Response>,
    /// One that bears an answer has been sent.
    pub(super) has_answered: bool,
    /// The callee's 2xx, while one that bears an answer is not acknowledged.
    pub(super) answer: Option<(Response, Flow)>,
}

#[derive(Debug)]
struct Sent {
    /// Ours, of the early dialog.
    tag: Option<u64>,
    retransmission: SuccessRetransmission,
    timer: TimerKey,
    bears_answer: bool,
}

/// A reliable response whose PRACK has not come before the final one.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    /// RSeq, and the number of the INVITE.
    named: (u32, u32),
    timer: TimerKey,
}

const _: () = assert!(size_of::<Unacknowledged>() <= 32);

impl Reliable {
    /// For an INVITE whose sender knows PRACK.
    pub(super) fn wanted<R: Rng>(
        trunk: &Trunk,
        invite: &Request,
        random: &mut R,
    ) -> Option<Box<Self>> {
        let headers = &invite.headers;
        let knows = [HeaderName::Require, HeaderName::Supported]
            .into_iter()
            .any(|name| headers.has_token(name, "100rel"));
        (trunk.sip.uses_prack() && knows).then(|| {
            Box::new(Self {
                number: random.random_range(1..FIRST_NUMBERS),
                sent: None,
                queue: VecDeque::new(),
                has_answered: false,
                answer: None,
            })
        })
    }

    /// Whether one that bears an answer has been sent and not been acknowledged.
    fn answer_is_sent(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.bears_answer)
    }

    /// Whether one that bears an answer waits to be sent or acknowledged.
    pub(super) fn answer_is_on_its_way(&self) -> bool {
        self.answer_is_sent() || self.queue.iter().any(|response| !response.body.is_empty())
    }

    pub(super) fn timer(&self) -> Option<TimerKey> {
        self.sent.as_ref().map(|sent| sent.timer)
    }
}

impl Call {
    fn reliable_mut(&mut self) -> Option<&mut Reliable> {
        self.setup.as_mut()?.reliable.as_deref_mut()
    }

    /// The caller has made another offer: what still waits must not answer the one before.
    pub(super) fn withhold_answers(&mut self) {
        let reliable = self.reliable_mut().into_iter();
        for response in reliable.flat_map(|reliable| &mut reliable.queue) {
            response.headers.remove(HeaderName::ContentType);
            response.body = Bytes::new();
        }
    }
}

impl<M: MediaPlane> Core<M> {
    /// Tells the caller how far its call is, reliably when it wants that.
    pub(super) fn tell_progress(
        &mut self,
        now: Instant,
        call: &mut Call,
        server: TransactionId,
        mut response: Response,
    ) {
        let id = call.id;
        let trunk = Arc::clone(&call.leg(Side::A).trunk);
        let Some(reliable) = call.reliable_mut() else {
            self.answer(now, &trunk, server, &response);
            return;
        };
        if reliable.sent.is_some() {
            if reliable.queue.len() < WAITING {
                reliable.queue.push_back(response);
            }
            return;
        }
        let Ok(target) = self.transactions.response_target(server) else {
            return;
        };
        reliable.number += 1;
        response.headers.push(HeaderName::Require, "100rel");
        response.headers.push(HeaderName::RSeq, reliable.number);
        let settings = self.transactions.settings();
        let retransmission = SuccessRetransmission::new(now, settings, target, response.to_bytes());
        let at = retransmission.next_timeout();
        let to = response.headers.to().ok().and_then(|to| to.tag());
        reliable.has_answered |= !response.body.is_empty();
        reliable.sent = Some(Sent {
            tag: to.and_then(|tag| parse_tag(&tag)),
            retransmission,
            timer: self.timers.set(at, id, Due::Reliable),
            bears_answer: !response.body.is_empty(),
        });
        self.answer(now, &trunk, server, &response);
    }

    /// The last one has still no PRACK.
    pub(super) fn reliable_due(&mut self, now: Instant, call: &mut Call) {
        let id = call.id;
        let Some(reliable) = call.reliable_mut() else {
            return;
        };
        let Some(sent) = &mut reliable.sent else {
            return;
        };
        match sent.retransmission.timeout(now) {
            SuccessStep::NoAck => {
                reliable.sent = None;
                reliable.queue.clear();
                let refusal = Refusal::new(504, "the caller sent no PRACK");
                self.refuse_caller(now, call, refusal, None);
                return;
            }
            SuccessStep::Transmit { target, bytes } => self.transactions.transmit(target, bytes),
            SuccessStep::Wait => {}
        }
        let at = sent.retransmission.next_timeout();
        sent.timer = self.timers.set(at, id, Due::Reliable);
    }

    /// The INVITE has its final response: what is not acknowledged is not sent again.
    pub(super) fn stop_reliable(&mut self, now: Instant, setup: &mut Setup) {
        let Some(reliable) = &mut setup.reliable else {
            return;
        };
        reliable.queue.clear();
        let Some(sent) = reliable.sent.take() else {
            return;
        };
        self.timers.clear(Some(sent.timer));
        let number = setup.request.headers.cseq().map(|cseq| cseq.number);
        if let (Some(tag), Ok(invite)) = (sent.tag, number)
            && self.unacknowledged.len() < LATE
        {
            let at = now + self.transactions.settings().patience();
            let late = Unacknowledged {
                named: (reliable.number, invite),
                timer: self.timers.set_prack(at, tag),
            };
            self.unacknowledged.insert(tag, late);
        }
    }

    /// A PRACK that comes after the final response. `None` when it names nothing that waits.
    pub(super) fn on_late_prack(&mut self, tag: &str, request: &Request) -> Option<Response> {
        let tag = parse_tag(tag)?;
        let named = self.unacknowledged.get(&tag)?.named;
        if acknowledged(request) != Some(named) {
            return None;
        }
        let late = self.unacknowledged.remove(&tag)?;
        self.timers.clear(Some(late.timer));
        // There is nothing left to negotiate.
        let status = if request.body.is_empty() { 200 } else { 488 };
        Some(Response::to_request(request, status, None))
    }

    /// Keeps the callee's 2xx until the answer that the caller has had is acknowledged, and until an
    /// UPDATE that is carried is answered. False when nothing has to wait.
    pub(super) fn answer_waits(call: &mut Call, response: &Response, flow: &Flow) -> bool {
        let carried = call.setup.as_ref().is_some_and(|it| it.carried.is_some());
        let Some(reliable) = call.reliable_mut() else {
            return false;
        };
        let waits = carried || reliable.answer_is_sent();
        if waits {
            reliable.answer = Some((response.clone(), flow.clone()));
        }
        waits
    }

    /// Whether another 2xx of the callee's side waits already, and whether this is a copy of it.
    pub(super) fn waiting_answer(call: &Call, response: &Response) -> Option<bool> {
        let reliable = call.setup.as_ref()?.reliable.as_ref()?;
        let (first, _) = reliable.answer.as_ref()?;
        let tag = |response: &Response| response.headers.to().ok().and_then(|to| to.tag());
        Some(tag(first) == tag(response))
    }

    /// A PRACK of the caller.
    pub(super) fn on_prack(
        &mut self,
        now: Instant,
        call: &mut Call,
        server: TransactionId,
        request: &Request,
    ) -> Result<(), Refusal> {
        let offer = match is_sdp(&request.headers, &request.body) {
            None => None,
            Some(true) => Some(&request.body),
            Some(false) => return Err(Refusal::new(415, "the body is not SDP")),
        };
        let trunk = Arc::clone(&call.leg(Side::A).trunk);
        let named = acknowledged(request);
        let Some(setup) = &mut call.setup else {
            return Err(Refusal::new(481, "nothing waits for a PRACK"));
        };
        let invite = setup.request.headers.cseq().map_or(0, |cseq| cseq.number);
        let Some(reliable) = &mut setup.reliable else {
            return Err(Refusal::new(481, "nothing waits for a PRACK"));
        };
        let sent = reliable
            .sent
            .take_if(|_| named == Some((reliable.number, invite)))
            .ok_or_else(|| Refusal::new(481, "nothing waits for this PRACK"))?;
        self.timers.clear(Some(sent.timer));
        let invited = setup.server;
        let offered = offer.map(|offer| {
            self.crosses_carried(call, Side::A)?;
            let answer = call
                .negotiation
                .offer_further(Side::A, offer, &mut self.random)?;
            self.connect_media(call)?;
            call.withhold_answers();
            Ok::<_, Refusal>(answer)
        });
        let response = match offered {
            None => Response::to_request(request, 200, None),
            Some(Ok(answer)) => Response::to_request(request, 200, None).with_body(SDP, answer),
            // The response before has been acknowledged all the same.
            Some(Err(refusal)) => {
                tracing::info!(
                    call = call.id.0,
                    why = &*refusal.why,
                    "an offer in PRACK refused"
                );
                refusal.response(request, "", &trunk)
            }
        };
        self.answer(now, &trunk, server, &response);
        if !self.answered_meanwhile(now, call)
            && let Some(reliable) = call.reliable_mut()
            && let (Some(next), Some(invited)) = (reliable.queue.pop_front(), invited)
        {
            self.tell_progress(now, call, invited, next);
        }
        Ok(())
    }

    /// Goes on with the callee's 2xx that has waited. False when there is none, or it still waits.
    pub(super) fn answered_meanwhile(&mut self, now: Instant, call: &mut Call) -> bool {
        let Some(setup) = call.setup.as_mut().filter(|it| it.carried.is_none()) else {
            return false;
        };
        let client = setup.attempt.client;
        let reliable = setup.reliable.as_mut();
        let reliable = reliable.filter(|reliable| !reliable.answer_is_sent());
        let Some((response, flow)) = reliable.and_then(|reliable| reliable.answer.take()) else {
            return false;
        };
        if !self.answered(now, call, &response, &flow)
            && let Some(client) = client
        {
            self.dismiss(now, client, &response, &flow, false);
        }
        true
    }
}

/// What RAck names: RSeq, and the number of the INVITE.
fn acknowledged(request: &Request) -> Option<(u32, u32)> {
    let mut words = request
        .headers
        .text(HeaderName::RAck)?
        .split_ascii_whitespace();
    let numbers = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next() == Some(Method::Invite.as_str())).then_some(numbers)
}
