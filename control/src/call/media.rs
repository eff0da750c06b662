//! A call's ports and what flows between them.

use std::{net::IpAddr, sync::Arc};

use relay_user::media::{Family, MediaError, MediaPlane, MediaPort, SourcePolicy};

use super::{Core, Side, model::Call, trunk::Trunk};
use crate::{
    config::Ice,
    sdp::{LegPolicy, NegotiatedMedia},
    sip::Headers,
};

/// Whether a Teams user is inside of our network: `internal`, or `external`. Case-sensitive.
const LOCATION: &str = "X-MS-UserLocation";

/// What SDP must know of a leg.
pub(super) fn policy(trunk: &Trunk, port: MediaPort) -> LegPolicy {
    let mut policy = LegPolicy::new(port);
    policy.srtp = trunk.srtp.into();
    policy.hold = trunk.hold;
    policy.ice = trunk.ice == Ice::Lite;
    policy.codecs = trunk.codec_filter.clone();
    policy
}

fn sources(trunk: &Trunk) -> SourcePolicy {
    SourcePolicy {
        latching: trunk.latching.into(),
        allowed: trunk.media_sources.clone(),
    }
}

impl<M: MediaPlane> Core<M> {
    /// Reserves a port for a leg: of the wanted family, or of the other when the interface has no
    /// address of it and the wish is only a guess. `headers` are those of the leg's INVITE, if it
    /// has sent one: they may say where its user is.
    pub(super) fn reserve(
        &mut self,
        trunk: &Trunk,
        wanted: Option<Family>,
        headers: Option<&Headers>,
    ) -> Result<MediaPort, MediaError> {
        let is_wanted = |address: &IpAddr| {
            wanted.is_none_or(|family| (family == Family::V4) == address.is_ipv4())
        };
        if let Some(address) = near(trunk, headers).filter(is_wanted) {
            return self.media.reserve_at(address);
        }
        let interface = trunk.interface.as_str();
        if let Some(family) = wanted {
            return self.media.reserve(interface, family);
        }
        let (first, second) = if trunk.listen.is_ipv4() {
            (Family::V4, Family::V6)
        } else {
            (Family::V6, Family::V4)
        };
        match self.media.reserve(interface, first) {
            Err(MediaError::NoAddress { .. }) => self.media.reserve(interface, second),
            other => other,
        }
    }

    /// Gives a leg a port at another address when its new offer says that its user is in another
    /// place than before. Gives the old port, which is in use until the offer is answered. Who
    /// comes with the same key, or the same ICE, is where it was.
    pub(super) fn move_port(
        &mut self,
        call: &mut Call,
        side: Side,
        headers: &Headers,
        offer: &[u8],
    ) -> Option<MediaPort> {
        let leg = call.leg(side);
        let trunk = Arc::clone(&leg.trunk);
        let old = leg.port?;
        if trunk.media_addresses().next().is_none()
            || !headers.has(LOCATION)
            || call.negotiation.is_elsewhere(side, offer) != Ok(true)
        {
            return None;
        }
        let address = old.rtp.ip();
        let family = if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let port = self
            .reserve(&trunk, Some(family), Some(headers))
            .inspect_err(|error| {
                tracing::warn!(call = call.id.0, %error, "the media address stays");
            })
            .ok()?;
        if port.rtp.ip() == address {
            self.media.release(port);
            return None;
        }
        call.negotiation.relocate(side, port);
        call.leg_mut(side).port = Some(port);
        Some(old)
    }

    /// Gives a leg back the port that [`Core::move_port`] has taken.
    pub(super) fn move_back(&mut self, call: &mut Call, side: Side, port: MediaPort) {
        call.negotiation.relocate(side, port);
        if let Some(new) = call.leg_mut(side).port.replace(port) {
            self.media.release(new);
        }
    }

    /// Makes the media plane do what offers and answers say now.
    pub(super) fn connect_media(&mut self, call: &Call) -> Result<(), MediaError> {
        self.connect(call, call.negotiation.media())
    }

    /// Makes the media plane do what `media` says.
    pub(super) fn connect(
        &mut self,
        call: &Call,
        media: Option<NegotiatedMedia>,
    ) -> Result<(), MediaError> {
        let Some(media) = media else {
            return Ok(());
        };
        let [a, b] = &call.legs;
        let sources = [sources(&a.trunk), sources(&b.trunk)];
        let dscp = [a.trunk.dscp, b.trunk.dscp];
        self.media
            .connect(call.id, media.call_media(sources, dscp))?;
        Ok(())
    }

    /// Ends a call's media and gives its ports back.
    pub(super) fn release_media(&mut self, call: &mut Call) {
        self.media.disconnect(call.id);
        for side in [Side::A, Side::B] {
            if let Some(port) = call.leg_mut(side).port.take() {
                self.media.release(port);
            }
        }
    }
}

/// Our media address for a user where the headers say that it is, if the trunk has one (Teams' local
/// media optimisation). Who says nothing, as one who is called, may be anywhere outside.
fn near(trunk: &Trunk, headers: Option<&Headers>) -> Option<IpAddr> {
    match headers.and_then(|headers| headers.text(LOCATION)) {
        Some("internal") => trunk.internal_address.or(trunk.external_address),
        _ => trunk.external_address,
    }
}

/// Whether media is stopped in a direction.
pub(super) fn is_held(call: &Call) -> bool {
    call.negotiation
        .media()
        .is_some_and(|media| media.streams.iter().any(|stream| !stream.active))
}
