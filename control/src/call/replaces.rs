//! Replaces (RFC 3891): an INVITE whose sender takes over one leg of a call that is up.

use std::{sync::Arc, time::Instant};

use relay_user::media::{CallId, MediaPlane};

use super::{
    CallState, Core, Side,
    core::parse_tag,
    dialog::Dialog,
    headers::is_sdp,
    invite::Refusal,
    media,
    model::{Call, Leg, Replacement},
    trunk::Trunk,
};
use crate::{
    sdp::{self, Direction},
    sip::{Flow, HeaderName, Request, Text, TransactionId},
};

/// The dialog that a Replaces names, as its recipient sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replaces {
    call_id: String,
    /// The recipient's tag.
    to_tag: String,
    from_tag: String,
    early_only: bool,
}

impl Replaces {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let call_id = parts.next().filter(|id| !id.is_empty())?.to_owned();
        let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "to-tag" => to_tag = Some(value.trim().to_owned()),
                "from-tag" => from_tag = Some(value.trim().to_owned()),
                "early-only" => early_only = true,
                _ => {}
            }
        }
        Some(Self {
            call_id,
            to_tag: to_tag?,
            from_tag: from_tag?,
            early_only,
        })
    }

    /// The one in a URI's headers, escaped there.
    pub(super) fn in_uri(headers: &str) -> Option<Self> {
        let (_, value) = headers
            .split('&')
            .filter_map(|header| header.split_once('='))
            .find(|(name, _)| name.eq_ignore_ascii_case("Replaces"))?;
        Self::parse(&unescape(value)?)
    }
}

fn unescape(value: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            octets.push((digit()? * 16 + digit()?) as u8);
        } else {
            octets.push(octet);
        }
    }
    String::from_utf8(octets).ok()
}

impl<M: MediaPlane> Core<M> {
    /// The dialog of ours that a Replaces names.
    pub(super) fn replaced(&self, replaces: &Replaces) -> Option<(CallId, Side)> {
        let (id, side) = self.tags.get(&parse_tag(&replaces.to_tag)?).copied()?;
        let leg = self.calls.get(&id)?.leg(side);
        let dialog = leg.dialog.as_ref()?;
        (leg.call_id == replaces.call_id.as_str() && dialog.remote_tag() == replaces.from_tag)
            .then_some((id, side))
    }

    /// An INVITE with Replaces. What it replaces goes on as it was when anything fails.
    pub(super) fn on_replacing(
        &mut self,
        now: Instant,
        server: TransactionId,
        request: &Request,
        flow: &Flow,
        from: &Arc<Trunk>,
    ) -> Result<(), Refusal> {
        let mut fields = request.headers.all(HeaderName::Replaces);
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return Err(Refusal::new(400, "more than one Replaces"));
        };
        let replaces = field
            .text()
            .and_then(Replaces::parse)
            .ok_or_else(|| Refusal::new(400, "Replaces cannot be read"))?;
        let Some((id, side)) = self.replaced(&replaces) else {
            return Err(Refusal::new(481, "no call is what Replaces names"));
        };
        let mut result = Ok(());
        self.with_call(now, id, |core, call| {
            result = core.begin_replacing(now, call, side, server, request, flow, from, &replaces);
        });
        result
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "an INVITE and the dialog that it means"
    )]
    fn begin_replacing(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
        flow: &Flow,
        from: &Arc<Trunk>,
        replaces: &Replaces,
    ) -> Result<(), Refusal> {
        match call.state {
            CallState::Ending => return Err(Refusal::new(603, "the call is ending")),
            _ if replaces.early_only => return Err(Refusal::new(486, "the call is answered")),
            _ => {}
        }
        self.is_quiet(call)?;
        self.may_depart()?;
        let offer = match is_sdp(&request.headers, &request.body) {
            None => None,
            Some(true) => Some(&request.body),
            Some(false) => return Err(Refusal::new(415, "the body is not SDP")),
        };
        let call_id = request
            .headers
            .call_id()
            .map_err(|_| Refusal::new(400, "Call-ID cannot be used"))?;
        let (_, tag) = self.new_tag();
        Dialog::accepted(request, &tag, flow)
            .map_err(|_| Refusal::new(400, "the INVITE makes no dialog"))?;
        if !self.is_emergency(call.called()) {
            self.keep_limits_instead(now, call, side, from)?;
        }
        let family = offer.map(|offer| sdp::family(offer)).transpose()?;
        let port = self.reserve(from, family, Some(&request.headers))?;
        let policy = media::policy(from, port);
        let mut negotiation = call
            .negotiation
            .with_new_peer(side, policy, &mut self.random);
        let other = side.other();
        let offer = match offer {
            Some(offer) => negotiation.offer(side, offer, &mut self.random),
            None if call.leg(other).trunk.sip.always_offers() => {
                let direction = Some(Direction::SendReceive);
                negotiation.offer_again(other, direction, &mut self.random)
            }
            // The other side is to make it.
            None => Ok(String::new()),
        };
        let offer = offer.inspect_err(|_| self.media.release(port))?;
        let replacement = Replacement {
            leg: Leg::new(Arc::clone(from), call_id, flow.remote, Some(port)),
            flow: flow.clone(),
            place: self.take_place(call, side, from),
            before: std::mem::replace(&mut call.negotiation, negotiation),
        };
        self.carry_offer(
            now,
            call,
            side,
            Some((server, request)),
            offer.into(),
            Some(Box::new(replacement)),
        );
        Ok(())
    }

    /// The other side has agreed: the new peer's leg takes the place of the old one. Gives our
    /// tag towards the new peer.
    pub(super) fn take_over(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        request: &Request,
        replacement: Replacement,
    ) -> Option<Text> {
        let Replacement {
            mut leg,
            flow,
            before,
            place,
        } = replacement;
        let (number, tag) = self.new_tag();
        leg.dialog = Dialog::accepted(request, &tag, &flow).ok();
        self.tags.insert(number, (call.id, side));
        let old = std::mem::replace(call.leg_mut(side), leg);
        self.statistics_moved(&old, call, side);
        drop(place);
        self.depart(now, call, side, old, before, true);
        Some(tag)
    }

    /// A peer that wanted to take over does not: the call is what it was.
    pub(super) fn withdraw(&mut self, call: &mut Call, replacement: Replacement) {
        call.negotiation = replacement.before;
        if let Some(port) = replacement.leg.port {
            self.media.release(port);
        }
    }

    /// A leg of a call that is up is another's now.
    pub(super) fn statistics_moved(&mut self, old: &Leg, call: &Call, side: Side) {
        let state = Some(call.state);
        self.statistics.moved(&old.trunk.name, state, None);
        self.statistics
            .moved(&call.leg(side).trunk.name, None, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaces_is_read_in_a_header_and_in_a_uri() {
        let plain = Replaces::parse("a@b;to-tag=1;from-tag=2;early-only").unwrap();
        assert_eq!(
            (
                &*plain.call_id,
                &*plain.to_tag,
                &*plain.from_tag,
                plain.early_only
            ),
            ("a@b", "1", "2", true)
        );
        let escaped = Replaces::in_uri("X=1&replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2").unwrap();
        assert_eq!(
            (escaped.call_id.as_str(), escaped.early_only),
            ("a@b", false)
        );
        assert_eq!(Replaces::parse("a@b;to-tag=1"), None);
        assert_eq!(Replaces::in_uri("Replaces=a%4"), None);
    }
}
