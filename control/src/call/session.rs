//! Session timers (RFC 4028), each leg on its own: a peer that is gone is noticed although nobody
//! says anything.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use relay_user::media::MediaPlane;

use super::{
    CallState, Core, EndReason, Side,
    authentication::own_tag,
    headers::identify,
    invite::Refusal,
    model::{Bye, Call, Question},
    routing::inside_dialog,
    status::ends_dialog,
    timers::{Due, TimerKey},
    trunk::Trunk,
    wire::Client,
};
use crate::sip::{HeaderName, Headers, Method, Request, Response};

/// How long after something else was in the way a refresh is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The session timer of a leg.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Session-Expires, in seconds.
    interval: u32,
    /// Whether we refresh.
    ours: bool,
    /// Whether the peer takes UPDATE.
    updates: bool,
    /// When it is over unless refreshed.
    end: Instant,
    pub(super) timer: Option<TimerKey>,
}

/// What a response to a peer's INVITE or UPDATE says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    interval: u32,
    ours: bool,
}

impl Terms {
    /// Puts them into a 2xx of ours.
    pub(super) fn write(self, headers: &mut Headers) {
        let refresher = if self.ours { "uas" } else { "uac" };
        headers.push(
            HeaderName::SessionExpires,
            format!("{};refresher={refresher}", self.interval),
        );
        if !self.ours {
            headers.push(HeaderName::Require, "timer");
        }
    }
}

/// What a request of the trunk asks for, and what it gets (RFC 4028 §9).
///
/// # Errors
/// 422 when its interval is too short.
pub(super) fn terms(trunk: &Trunk, request: &Request) -> Result<Option<Terms>, Refusal> {
    let headers = &request.headers;
    let asked = headers.number(HeaderName::SessionExpires).ok().flatten();
    let theirs = headers.number(HeaderName::MinSe).ok().flatten();
    let shortest = trunk.sip.shortest_session();
    let knows = headers.has_token(HeaderName::Supported, "timer");
    if asked.is_some_and(|asked| asked < shortest) && knows {
        return Err(Refusal::new(422, "the session timer is too short").min_se(shortest));
    }
    let wanted = Some(trunk.sip.session_expires).filter(|wanted| *wanted > 0);
    let floor = shortest.max(theirs.unwrap_or(0));
    let interval = match (asked, wanted) {
        (Some(asked), Some(wanted)) => asked.min(wanted.max(floor)),
        (Some(asked), None) => asked,
        (None, Some(wanted)) => wanted.max(floor),
        (None, None) => return Ok(None),
    };
    let ours = match refresher(headers) {
        Some(refresher) => refresher.eq_ignore_ascii_case("uas"),
        None => !knows,
    };
    Ok(Some(Terms {
        interval: interval.max(shortest),
        ours,
    }))
}

fn refresher(headers: &Headers) -> Option<&str> {
    headers
        .text(HeaderName::SessionExpires)?
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("refresher"))
        .map(|(_, value)| value.trim())
}

/// Asks for a session timer in the INVITE that makes a call. `least` is what a 422 has asked for.
pub(super) fn ask(trunk: &Trunk, least: u32, headers: &mut Headers) {
    let wanted = trunk.sip.session_expires;
    if wanted > 0 {
        let shortest = trunk.sip.shortest_session();
        let interval = wanted.max(least).max(shortest);
        headers.push(HeaderName::SessionExpires, interval);
        headers.push(HeaderName::MinSe, shortest.max(least));
    }
}

impl<M: MediaPlane> Core<M> {
    /// A session of a leg begins, or was refreshed; `None`: it has no timer any more.
    pub(super) fn set_session(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        terms: Option<Terms>,
        peer: &Headers,
    ) {
        let updates = call.leg(side).trunk.sip.uses_update()
            && (peer.has_token(HeaderName::Allow, "UPDATE")
                || (!peer.has(HeaderName::Allow)
                    && call
                        .leg(side)
                        .session
                        .as_ref()
                        .is_some_and(|session| session.updates)));
        self.clear_session(call, side);
        let Some(Terms { interval, ours }) = terms else {
            return;
        };
        let whole = Duration::from_secs(interval.into());
        // RFC 4028 §10.
        let end = now + whole - (whole / 3).min(Duration::from_secs(32));
        let at = if ours { now + whole / 2 } else { end };
        let timer = Some(self.timers.set(at, call.id, Due::Session(side)));
        call.leg_mut(side).session = Some(Box::new(Session {
            interval,
            ours,
            updates,
            end,
            timer,
        }));
    }

    pub(super) fn clear_session(&mut self, call: &mut Call, side: Side) {
        if let Some(session) = call.leg_mut(side).session.take() {
            self.timers.clear(session.timer);
        }
    }

    /// A leg has come from another call with its session: the timer is that call's.
    pub(super) fn move_session(&mut self, now: Instant, call: &mut Call, side: Side) {
        let id = call.id;
        if let Some(session) = &mut call.leg_mut(side).session {
            self.timers.clear(session.timer.take());
            let at = if session.ours {
                now + AGAIN
            } else {
                session.end
            };
            session.timer = Some(self.timers.set(at, id, Due::Session(side)));
        }
    }

    /// A 2xx to an INVITE or UPDATE of ours says what holds (RFC 4028 §7.2).
    pub(super) fn session_answered(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        response: &Response,
    ) {
        let headers = &response.headers;
        let terms = headers
            .number(HeaderName::SessionExpires)
            .ok()
            .flatten()
            .map(|interval| Terms {
                interval: interval.max(call.leg(side).trunk.sip.shortest_session()),
                ours: !refresher(headers).is_some_and(|value| value.eq_ignore_ascii_case("uas")),
            });
        self.set_session(now, call, side, terms, headers);
    }

    /// Says in a request of ours within the dialog what holds.
    pub(super) fn repeat_session(call: &Call, side: Side, headers: &mut Headers) {
        let leg = call.leg(side);
        if let Some(session) = &leg.session {
            let refresher = if session.ours { "uac" } else { "uas" };
            headers.push(
                HeaderName::SessionExpires,
                format!("{};refresher={refresher}", session.interval),
            );
            headers.push(HeaderName::MinSe, leg.trunk.sip.shortest_session());
        }
    }

    /// It is time to refresh a session, or it is over.
    pub(super) fn session_due(&mut self, now: Instant, call: &mut Call, side: Side) {
        let id = call.id;
        let is_refreshing = call
            .exchange
            .as_ref()
            .is_some_and(|exchange| exchange.is_asked_by(side));
        let Some(session) = &mut call.leg_mut(side).session else {
            return;
        };
        session.timer = None;
        if is_refreshing && now >= session.end {
            // The peer is there: it waits for the other side's answer.
            session.timer = Some(self.timers.set(now + AGAIN, id, Due::Session(side)));
            return;
        }
        if now >= session.end || !session.ours {
            self.end(now, call, EndReason::Expired(side), None);
            return;
        }
        session.timer = Some(self.timers.set(session.end, id, Due::Session(side)));
        let updates = session.updates;
        if call.state != CallState::Established || call.leg(side).bye != Bye::None {
            return;
        }
        if updates {
            self.send_update(now, call, side);
        } else {
            self.reoffer(now, call, side, Question::default());
        }
    }

    fn send_update(&mut self, now: Instant, call: &mut Call, side: Side) {
        let trunk = Arc::clone(&call.leg(side).trunk);
        let Some(dialog) = &mut call.leg_mut(side).dialog else {
            return;
        };
        let mut request = dialog.request(Method::Update);
        let target = inside_dialog(&trunk, &dialog.first_hop(), &dialog.flow);
        identify(&mut request, &trunk);
        Self::repeat_session(call, side, &mut request.headers);
        let client = Client::Refresh {
            tag: own_tag(&request),
            trunk: Arc::clone(&trunk),
        };
        self.send(now, &trunk, target, request, client);
    }

    /// The answer to an UPDATE of ours, or its failure.
    pub(super) fn on_refreshed(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        status: u16,
        response: Option<&Response>,
    ) {
        // A transfer goes on without whoever has hung up.
        if call.state != CallState::Established || call.leg(side).bye != Bye::None {
            return;
        }
        match response {
            Some(response) if response.is_success() => {
                self.session_answered(now, call, side, response);
            }
            _ if ends_dialog(status) => self.end(now, call, EndReason::Lost(side), None),
            Some(response) => self.refresh_failed(now, call, side, response),
            None => {}
        }
    }

    /// A refresh was refused: again, for longer if that was why, as long as there is time.
    pub(super) fn refresh_failed(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        response: &Response,
    ) {
        let id = call.id;
        let least = response.headers.number(HeaderName::MinSe).ok().flatten();
        let Some(session) = call
            .leg_mut(side)
            .session
            .as_mut()
            .filter(|session| session.ours)
        else {
            return;
        };
        match (response.status, least) {
            (422, Some(least)) => session.interval = session.interval.max(least),
            (405 | 501, _) => session.updates = false,
            _ => {}
        }
        self.timers.clear(session.timer.take());
        let at = (now + AGAIN).min(session.end);
        session.timer = Some(self.timers.set(at, id, Due::Session(side)));
    }
}
