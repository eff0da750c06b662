//! Attended transfers of two calls that both run through us (RFC 5589 §7): the other side of the
//! second call takes the place of the side that asks.

use std::{sync::Arc, time::Instant};

use relay_user::media::MediaPlane;

use super::{
    CallState, Change, Core, EndReason, Side,
    core::parse_tag,
    invite::Refusal,
    model::{Call, Leg},
    replaces::Replaces,
};

impl<M: MediaPlane> Core<M> {
    /// The side that asks has another call with us, whose other side is to take its place here:
    /// an attended transfer of two calls that both run through us.
    pub(super) fn join(
        &mut self,
        now: Instant,
        call: &mut Call,
        by: Side,
        replaces: &Replaces,
    ) -> Result<(), Refusal> {
        let (id, asker) = self
            .replaced(replaces)
            .ok_or_else(|| Refusal::new(481, "no call is what Replaces names"))?;
        let Some(mut second) = self.calls.remove(&id) else {
            return Err(Refusal::new(481, "no call is what Replaces names"));
        };
        let result = self.join_with(now, call, by, &mut second, asker);
        if second.is_over() {
            self.forget(now, &mut second);
        } else {
            self.calls.insert(id, second);
        }
        result
    }

    fn join_with(
        &mut self,
        now: Instant,
        call: &mut Call,
        by: Side,
        second: &mut Call,
        asker: Side,
    ) -> Result<(), Refusal> {
        if second.state != CallState::Established {
            return Err(Refusal::new(486, "the other call is not answered"));
        }
        self.may_join(call)?;
        self.may_join(second)?;
        let (stays, far) = (by.other(), asker.other());
        let mut joined = call.negotiation.joined(stays, &second.negotiation, far);
        // The leg's pairs are forgotten with the media of the call that it leaves.
        let statistics = self.media.statistics(second.id);
        let peer = statistics.and_then(|both| both.get(far.index()).and_then(|one| one.peer));
        joined.locate(by, peer);
        if joined.media().is_none() {
            return Err(Refusal::new(488, "both sides share no codec"));
        }
        let taken = second.leg(far);
        let nobody = Leg::new(
            Arc::clone(&taken.trunk),
            taken.call_id.clone(),
            taken.remote,
            None,
        );
        let mut taken = std::mem::replace(second.leg_mut(far), nobody);
        if let Some(asked) = &mut taken.asked {
            // It was of the call that the leg leaves.
            asked.next = None;
        }
        if let Some(tag) = taken
            .dialog
            .as_ref()
            .and_then(|dialog| parse_tag(dialog.local_tag()))
        {
            self.tags.insert(tag, (call.id, by));
        }
        let mut old = std::mem::replace(call.leg_mut(by), taken);
        let before = std::mem::replace(&mut call.negotiation, joined);
        self.statistics_moved(&old, call, by);
        self.move_session(now, call, by);
        self.media.disconnect(second.id);
        let connected = self.connect_media(call);
        self.notify(now, &mut old, 200, true);
        self.depart(now, call, by, old, before, false);
        self.end(now, second, EndReason::Transferred(asker), None);
        self.event(call, Change::Transferred { by });
        self.offer_newly(now, call, by, connected, (by, Some(stays)));
        Ok(())
    }
}
