//! A call and what it is made of.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use relay_user::media::{CallId, MediaPort};

use super::{
    CallState, EndReason, Side,
    attempt::Attempt,
    dialog::Dialog,
    limits::Place,
    reliable::Reliable,
    session::{Session, Terms},
    timers::TimerKey,
    trunk::Trunk,
};
use crate::{
    sdp::{Direction, Negotiation},
    sip::{Flow, Header, Part, Request, SuccessRetransmission, Target, Text, TransactionId, Uri},
};

/// The most early dialogs of one call: forks of the callee's side.
pub(super) const EARLY_DIALOGS: usize = 128;
/// The most INFOs of one call that wait for an answer.
pub(super) const INFOS: u8 = 8;

// What a call has only at times is boxed: most calls are up and have none of it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) number: Text,
    pub(super) from: Option<Text>,
    pub(super) started: Instant,
    pub(super) answered: Option<Instant>,
    pub(super) state: CallState,
    /// The caller's, then the callee's.
    pub(super) legs: [Leg; 2],
    pub(super) negotiation: Negotiation,
    /// Until the callee has answered or the caller has been refused and the callee is done with.
    pub(super) setup: Option<Box<Setup>>,
    /// A re-INVITE on its way.
    pub(super) exchange: Option<Box<Exchange>>,
    /// A new peer that one side has asked us to invite in its place.
    pub(super) transfer: Option<Box<Transfer>>,
    /// INFOs that wait for an answer.
    pub(super) infos: u8,
    /// Another peer has taken over what it was part of: nothing is left of it but its end.
    pub(super) departs: bool,
    pub(super) why: Option<EndReason>,
}

// The largest piece of a call that is up. One octet more would take the allocator's next size, 1536.
const _: () = assert!(size_of::<Call>() <= 1280);

/// One leg: a dialog and a media port.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) trunk: Arc<Trunk>,
    pub(super) call_id: Text,
    pub(super) remote: SocketAddr,
    pub(super) port: Option<MediaPort>,
    /// Once confirmed.
    pub(super) dialog: Option<Dialog>,
    /// Our 2xx that waits for its ACK.
    pub(super) accepted: Option<Box<Accepted>>,
    /// Our re-INVITE that has no final response yet.
    pub(super) asked: Option<Box<Asked>>,
    /// The number of our INVITE whose 2xx came and whose ACK waits for an answer of the other
    /// side.
    pub(super) owes_ack: Option<u32>,
    /// Our last ACK, for further copies of the 2xx: as long as these may come.
    pub(super) acknowledged: Option<Box<Acknowledged>>,
    pub(super) bye: Bye,
    pub(super) session: Option<Box<Session>>,
}

/// A re-INVITE of ours in progress: until it has ended no other may follow it (RFC 3261 §14.1).
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) client: TransactionId,
    /// What the side is to be asked then, when nobody waits for this one any more.
    pub(super) next: Option<Question>,
}

/// What we ask of a side by ourselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) direction: Option<Direction>,
    /// Who is to be asked next, in the name of the one that is asked.
    pub(super) then: Option<Side>,
}

/// How far the leg is with BYE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bye {
    /// The leg is up, or has never been.
    None,
    /// To be sent when the peer has acknowledged our 2xx (RFC 3261 §15).
    AfterAck,
    Sent,
    /// Nothing more to be said.
    Done,
}

/// A 2xx of ours without ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) sequence: u32,
    pub(super) retransmission: SuccessRetransmission,
    pub(super) timer: Option<TimerKey>,
    /// Whether the 2xx bore our offer, so that the ACK must bear the answer.
    pub(super) wants_answer: bool,
    /// Whether it answered the INVITE that made the dialog.
    pub(super) is_first: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    pub(super) sequence: u32,
    pub(super) target: Target,
    pub(super) bytes: Bytes,
}

/// The INVITE that makes the call.
#[derive(Debug)]
pub(super) struct Setup {
    /// The caller's INVITE and its transaction; `None` once it has its final response.
    pub(super) server: Option<TransactionId>,
    pub(super) request: Request,
    pub(super) flow: Flow,
    pub(super) offerless: bool,
    /// The body of our INVITE. Of an INVITE without an offer: one that was made here, or none.
    pub(super) offer: Bytes,
    /// Where the caller is.
    pub(super) locations: Vec<Part>,
    /// The number that stands for the caller because of where it is.
    pub(super) elin: Option<Text>,
    /// What the caller gets of a session timer.
    pub(super) terms: Option<Terms>,
    /// Our INVITE.
    pub(super) attempt: Attempt,
    /// Where provisional responses are sent until the caller acknowledges them.
    pub(super) reliable: Option<Box<Reliable>>,
    /// Whether a 183 has been passed on.
    pub(super) told_progress: bool,
    pub(super) forks: Vec<Fork>,
    pub(super) no_answer: Option<TimerKey>,
    pub(super) carried: Option<Box<Carried>>,
}

/// An UPDATE whose offer the other side has been asked about.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) by: Side,
    pub(super) server: TransactionId,
    pub(super) request: Request,
    /// The tag of the branch that has sent it, or that it was sent to.
    pub(super) branch: Text,
    pub(super) client: TransactionId,
}

/// An early dialog with the callee, and the one with the caller that stands for it.
#[derive(Debug)]
pub(super) struct Fork {
    pub(super) remote_tag: Text,
    pub(super) local_tag: Text,
    /// Its last SDP.
    pub(super) sdp: Option<Bytes>,
    /// It has come in a reliable response: our offer is answered.
    pub(super) is_answered: bool,
    /// Then another offer was made in it, and answered: that holds.
    pub(super) is_renewed: bool,
    /// RSeq of its last reliable response; 0 before the first.
    pub(super) reliable: u32,
    /// CSeq of our last request in it; 0 before the first.
    pub(super) sequence: u32,
    /// The same, of our requests to the caller.
    pub(super) caller_sequence: u32,
    /// Where requests in it go, when it has sent a reliable response that says that it takes
    /// UPDATE.
    pub(super) updates: Option<Box<Dialog>>,
}

/// A re-INVITE that is carried from one side to the other, or one of our own.
#[derive(Debug)]
pub(super) struct Exchange {
    /// In whose name the other side is asked.
    pub(super) by: Side,
    /// `None` once it has its final response, or when nobody asked us.
    pub(super) server: Option<TransactionId>,
    /// The re-INVITE or UPDATE that is carried.
    pub(super) request: Option<Request>,
    pub(super) offerless: bool,
    pub(super) offer: Bytes,
    pub(super) client: Option<TransactionId>,
    /// The side that asked has cancelled it, or waited too long.
    pub(super) cancelled: Option<u16>,
    /// How often the other side was asked.
    pub(super) attempts: u32,
    pub(super) retry: Option<TimerKey>,
    pub(super) no_answer: Option<TimerKey>,
    /// Who takes the place of the side in whose name we ask.
    pub(super) replacement: Option<Box<Replacement>>,
    /// The port of the side that asked before it came from another place: its again unless the
    /// other side agrees.
    pub(super) old_port: Option<MediaPort>,
    /// Of one of our own: what we ask.
    pub(super) question: Question,
}

/// A peer that takes over a leg when the other side agrees.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) leg: Leg,
    /// The way that its INVITE came.
    pub(super) flow: Flow,
    /// What holds again when it comes to nothing.
    pub(super) before: Negotiation,
    /// Its place, until it has it.
    pub(super) place: Place,
}

/// A new peer that is being invited to take over a leg.
#[derive(Debug)]
pub(super) struct Transfer {
    /// The side that asked, and will be replaced.
    pub(super) by: Side,
    /// The new peer's leg, without a dialog.
    pub(super) leg: Leg,
    /// Between the side that stays and the new peer.
    pub(super) negotiation: Negotiation,
    pub(super) offer: Bytes,
    /// Refer-To.
    pub(super) uri: Uri,
    /// The number in it.
    pub(super) number: Text,
    pub(super) referred_by: Option<Header>,
    /// Our tag towards the new peer.
    pub(super) tag: Text,
    /// Our INVITE.
    pub(super) attempt: Attempt,
    /// Its early dialogs.
    pub(super) forks: Vec<Fork>,
    /// The early dialog in which it has made an offer of its own, which we have answered.
    pub(super) renewed: Option<Text>,
    /// The side that asked has hung up in the meantime.
    pub(super) asker_is_gone: bool,
    /// The new peer's, until nobody wants its answer any more.
    pub(super) place: Option<Place>,
    /// Until the new peer must have answered.
    pub(super) timer: Option<TimerKey>,
    /// The new peer is invited by the URI of Refer-To, word for word.
    pub(super) is_verbatim: bool,
}

impl Call {
    pub(super) const fn leg(&self, side: Side) -> &Leg {
        let [a, b] = &self.legs;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(super) const fn leg_mut(&mut self, side: Side) -> &mut Leg {
        let [a, b] = &mut self.legs;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// Whether the peer of a side has asked for a transfer and hung up, so that the call goes on
    /// without it.
    pub(super) fn is_being_replaced(&self, side: Side) -> bool {
        let transfer = self.transfer.as_ref();
        transfer.is_some_and(|transfer| transfer.by == side && transfer.asker_is_gone)
    }

    /// Whether nothing more is to come of it.
    pub(super) fn is_over(&self) -> bool {
        self.state == CallState::Ending
            && self.setup.is_none()
            && self.transfer.is_none()
            && self
                .legs
                .iter()
                .all(|leg| leg.dialog.is_none() || leg.bye == Bye::Done)
    }
}

impl Exchange {
    /// Whether the peer of a side waits for its outcome, and not one that wants its place.
    pub(super) fn is_asked_by(&self, side: Side) -> bool {
        self.by == side && self.server.is_some() && self.replacement.is_none()
    }
}

impl Leg {
    /// A re-INVITE of ours has ended: what is to be asked next, if that was waiting for it.
    pub(super) fn asked_ended(&mut self, client: TransactionId) -> Option<Question> {
        let asked = self.asked.take_if(|asked| asked.client == client)?;
        asked.next
    }

    pub(super) const fn new(
        trunk: Arc<Trunk>,
        call_id: Text,
        remote: SocketAddr,
        port: Option<MediaPort>,
    ) -> Self {
        Self {
            trunk,
            call_id,
            remote,
            port,
            dialog: None,
            accepted: None,
            asked: None,
            owes_ack: None,
            acknowledged: None,
            bye: Bye::None,
            session: None,
        }
    }
}
