//! Legs that leave a call which goes on without them: another peer has taken their place.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use relay_user::media::MediaPlane;

use super::{
    CallState, Core, Side,
    core::parse_tag,
    model::{Bye, Call, Leg},
    timers::Due,
};
use crate::sdp::Negotiation;

/// How long a peer that asked for a transfer is given to hang up by itself.
const PATIENCE: Duration = Duration::from_secs(8);

impl<M: MediaPlane> Core<M> {
    /// Makes a call of its own of a leg whose place in `call` is another's now: nothing is left
    /// of it but its end. That comes from here `at_once`, or when its peer has not hung up by
    /// itself. `negotiation` is the one that it was part of.
    pub(super) fn depart(
        &mut self,
        now: Instant,
        call: &Call,
        side: Side,
        mut leg: Leg,
        negotiation: Negotiation,
        at_once: bool,
    ) {
        if let Some(port) = leg.port.take() {
            self.media.release(port);
        }
        let Some(dialog) = &leg.dialog else { return };
        let Some(tag) = parse_tag(dialog.local_tag()) else {
            return;
        };
        if leg.bye == Bye::Done {
            self.forget_tag(dialog.local_tag());
            return;
        }
        let id = self.new_call_id();
        self.tags.insert(tag, (id, side));
        if let Some(accepted) = leg.accepted.take() {
            self.timers.clear(accepted.timer);
        }
        if let Some(session) = leg.session.take() {
            self.timers.clear(session.timer);
        }
        let other = call.leg(side.other());
        let nobody = Leg::new(
            Arc::clone(&other.trunk),
            other.call_id.clone(),
            other.remote,
            None,
        );
        let legs = match side {
            Side::A => [leg, nobody],
            Side::B => [nobody, leg],
        };
        for leg in &legs {
            self.statistics
                .moved(&leg.trunk.name, None, Some(CallState::Ending));
        }
        let departed = Call {
            id,
            number: call.number.clone(),
            from: call.from.clone(),
            started: call.started,
            answered: call.answered,
            state: CallState::Ending,
            legs,
            negotiation,
            setup: None,
            exchange: None,
            transfer: None,
            infos: 0,
            departs: true,
            why: None,
        };
        self.departing += 1;
        self.calls.insert(id, Box::new(departed));
        if at_once {
            self.with_call(now, id, |core, call| core.send_bye(now, call, side, None));
        } else {
            self.timers.set(now + PATIENCE, id, Due::Depart(side));
        }
    }

    /// The peer has not hung up by itself.
    pub(super) fn depart_due(&mut self, now: Instant, call: &mut Call, side: Side) {
        if call.leg(side).bye == Bye::None {
            self.send_bye(now, call, side, None);
        }
    }
}
