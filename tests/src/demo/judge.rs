//! What became of each call.

use std::collections::BTreeMap;

use super::{
    kind::Kind,
    peers::{Callees, Caller, Peer},
};
use crate::{
    daemon::{CallView, StreamView},
    lab::Party,
    sound::{Comparison, Melody, compare},
    wire::{Datagram, PlainCount, PlainSound, Sighting, sightings, streams},
};

/// What the parties' wires carried.
pub(super) struct Captured {
    pub(super) carrier: Vec<Datagram>,
    pub(super) teams: Vec<Datagram>,
}

/// One call's end of the story.
pub(super) struct CallResult {
    pub(super) kind: Kind,
    pub(super) number: String,
    pub(super) answered: bool,
    pub(super) codec: String,
    /// What arrived at each side, compared with what the other side sent.
    pub(super) caller: Option<Comparison>,
    pub(super) callee: Option<Comparison>,
    pub(super) needed: f64,
    /// From the caller to the callee, then back.
    pub(super) streams: Vec<StreamView>,
}

impl CallResult {
    pub(super) fn caller_heard(&self) -> bool {
        self.caller.is_some_and(|heard| heard.is_same(self.needed))
    }

    pub(super) fn callee_heard(&self) -> bool {
        self.callee.is_some_and(|heard| heard.is_same(self.needed))
    }

    pub(super) fn is_good(&self) -> bool {
        self.answered && self.caller_heard() && self.callee_heard()
    }
}

pub(super) fn judge(
    caller: &Caller,
    callees: &Callees,
    captured: &Captured,
    views: &BTreeMap<String, CallView>,
    needed: f64,
) -> CallResult {
    let number = caller.number();
    let view = views.get(&number);
    let callee_melody = callees.melody(caller.kind);
    let at_caller = match &caller.peer {
        Peer::Baresip(baresip) => baresip.heard().into_iter().next(),
        Peer::Sipp(_) => heard_at_carrier(&captured.carrier, &number, true),
    };
    let callee = match callees.of(caller.kind) {
        Some(answering) => best(&caller.melody, answering.baresip.heard()),
        None => best(
            &caller.melody,
            heard_at_carrier(&captured.carrier, &number, false),
        ),
    };
    CallResult {
        kind: caller.kind,
        answered: answered(caller, captured, &number),
        codec: view.map(|view| view.codec.clone()).unwrap_or_default(),
        caller: best(callee_melody, at_caller),
        callee,
        needed,
        streams: view.map(|view| view.streams.clone()).unwrap_or_default(),
        number,
    }
}

/// Whether the carrier's wire, or the Teams side's baresip, saw the call's 200.
fn answered(caller: &Caller, captured: &Captured, number: &str) -> bool {
    match &caller.peer {
        Peer::Baresip(baresip) => baresip.established() > 0,
        Peer::Sipp(_) => {
            let seen = sightings(&captured.carrier);
            let Some(call) = call_id(&seen, number) else {
                return false;
            };
            seen.iter().any(|message| {
                message.status() == Some(200)
                    && message.method() == "INVITE"
                    && message.header("Call-ID") == Some(&call)
            })
        }
    }
}

/// Of several recordings the one in which most agrees.
fn best(sent: &Melody, recordings: impl IntoIterator<Item = Vec<i16>>) -> Option<Comparison> {
    recordings
        .into_iter()
        .map(|heard| compare(sent.samples(), &heard))
        .max_by_key(|comparison| (comparison.agreeing, comparison.windows))
}

fn call_id(seen: &[Sighting], number: &str) -> Option<String> {
    let start = format!("INVITE sip:{number}@");
    seen.iter()
        .find(|message| message.start_line().starts_with(&start))
        .and_then(|message| message.header("Call-ID"))
        .map(str::to_owned)
}

/// The sound on the carrier's wire for the call of that number: from the address that our SDP
/// names to the one that the carrier's names. One is in the INVITE, the other in the 200; SIPp has
/// one port for all the calls that it answers.
fn heard_at_carrier(datagrams: &[Datagram], number: &str, calls: bool) -> Option<Vec<i16>> {
    let seen = sightings(datagrams);
    let call = call_id(&seen, number)?;
    let of_call = || {
        seen.iter()
            .filter(|message| message.header("Call-ID") == Some(&call))
    };
    let offer = of_call()
        .filter(|message| message.start_line().starts_with("INVITE "))
        .find_map(Sighting::audio)?;
    let answer = of_call()
        .filter(|message| message.status() == Some(200) && message.method() == "INVITE")
        .find_map(Sighting::audio)?;
    let (from, to) = if calls {
        (answer, offer)
    } else {
        (offer, answer)
    };
    streams(datagrams)
        .into_iter()
        .find(|stream| (stream.source, stream.destination) == (from, to))
        .map(|stream| stream.sound())
}

/// How much lay bare on two wires: on the carrier's everything should, towards Teams nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    pub(super) carrier: PlainCount,
    pub(super) teams: PlainCount,
}

impl Plain {
    /// Whether nothing is bare towards Teams, by a check that sees what is bare at the carrier.
    pub(super) fn is_hidden(&self) -> bool {
        self.carrier.plain * 2 > self.carrier.packets
            && self.teams.packets > 0
            && self.teams.plain == 0
    }
}

pub(super) fn plain(callers: &[Caller], callees: &Callees, captured: &Captured) -> Plain {
    let melodies = callers
        .iter()
        .map(|caller| &caller.melody)
        .chain(Kind::ALL.map(|kind| callees.melody(kind)));
    let sound = PlainSound::new(melodies);
    Plain {
        carrier: sound.count(&captured.carrier),
        teams: sound.count(&captured.teams),
    }
}

impl Plain {
    /// Whose wires these are.
    pub(super) const PARTIES: [&'static str; 2] = [Party::Carrier.trunk(), Party::Teams.trunk()];
}
