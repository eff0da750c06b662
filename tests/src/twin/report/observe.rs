//! What rows look at in common.

use std::time::{Duration, Instant};

use super::{demand, stage::Stage};
use crate::{
    lab::{LabError, Result},
    twin::{
        agent::{Arrival, SOON},
        call::Call,
        media::apart,
        message::Message,
        rules::{self, Rule},
        sdp::Sdp,
    },
};

/// None of the rules is broken by a message.
pub(super) fn unbroken(arrival: &Arrival, rules: &[Rule]) -> Result<()> {
    match arrival.broken.iter().find(|rule| rules.contains(rule)) {
        None => Ok(()),
        Some(rule) => Err(LabError::new(format!(
            "{rule}: {}",
            told(&arrival.message, *rule)
        ))),
    }
}

/// The line of a message that a rule is about.
fn told(message: &Message, rule: Rule) -> String {
    let header = match rule {
        Rule::RequestName | Rule::RequestNumber | Rule::RequestTarget | Rule::RequestScheme => {
            return message.start.clone();
        }
        Rule::FromName => "From",
        Rule::ViaName | Rule::ViaAlias => "Via",
        Rule::NoProduct => "X-MS-SBC",
        Rule::RouteSet => "Route",
        Rule::Requires => "Require",
        _ => "Contact",
    };
    format!("{header}: {}", message.header(header).unwrap_or_default())
}

/// An answer that Teams takes.
pub(super) fn good_answer(message: &Message) -> Result<Sdp> {
    let sdp = Sdp::of(&message.body).ok_or_else(|| LabError::new("the answer holds no SDP"))?;
    match rules::description(&sdp, false).first() {
        None => Ok(sdp),
        Some(rule) => Err(LabError::new(format!("the answer: {rule}"))),
    }
}

/// The key that the SBC sends with towards Teams.
pub(super) fn sbc_key(sdp: &Sdp) -> Result<String> {
    let keys = sdp.keys();
    let key = keys.first().map(|key| key.key.clone());
    key.ok_or_else(|| LabError::new("the SDP holds no key"))
}

/// Each side of a call hears the other, from now on.
///
/// # Errors
/// When one does not.
pub fn heard(left: &Call, right: &Call) -> Result<()> {
    crate::twin::media::both_hear(
        (left.agent.name(), &left.media),
        (right.agent.name(), &right.media),
    )
}

/// A party hears nothing of what another says from now on for a while. What was said before may still
/// arrive, however late.
pub(super) fn silent(listener: &Call, speaker: &Call) -> Result<()> {
    let (begun, first) = (Instant::now(), speaker.media.position());
    std::thread::sleep(Duration::from_millis(400));
    let end = speaker.media.position();
    let heard = (listener.media).heard_between(&speaker.media, begun, first, end);
    demand(heard == 0, || {
        format!("{heard} packets were heard in 400 ms after the hold")
    })
}

/// Behind a mark no request has begun towards Teams that it does not allow.
pub(super) fn only_allowed(stage: &Stage, mark: usize) -> Result<()> {
    let arrivals = stage.twin.agent.arrivals(mark);
    let broken = arrivals.iter().filter(|arrival| {
        [Rule::MethodNotAllowed, Rule::Replaces, Rule::Requires]
            .iter()
            .any(|rule| arrival.broken.contains(rule))
    });
    let seen: Vec<_> = broken.map(|arrival| &arrival.message.start).collect();
    demand(seen.is_empty(), || format!("Teams saw {seen:?}"))
}

/// The INVITEs to Teams behind a mark that begin a call.
pub(super) fn invites(stage: &Stage, mark: usize) -> Vec<Arrival> {
    let mut arrivals = stage.twin.agent.arrivals(mark);
    arrivals.retain(|arrival| {
        let message = &arrival.message;
        message.is_request() && message.method() == "INVITE" && message.to_tag().is_none()
    });
    arrivals
}

/// Of what a party says, the old listener has heard the beginning and the new one the rest: the time
/// in between is short.
pub(super) fn gap(speaker: &Call, old: &Call, new: &Call, since: Instant) -> Result<()> {
    let missing = || LabError::new("the party is not heard on both sides of the transfer");
    // The old listener's last words may come from before.
    let before = since.checked_sub(SOON).unwrap_or(since);
    let [_, last] = old.media.span(&speaker.media, before).ok_or_else(missing)?;
    let [first, _] = new.media.span(&speaker.media, since).ok_or_else(missing)?;
    let gap = apart(last, first);
    demand(gap < Duration::from_millis(100), || {
        format!(
            "nobody hears {} for {} ms",
            speaker.agent.name(),
            gap.as_millis()
        )
    })
}
