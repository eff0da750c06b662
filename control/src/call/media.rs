//! A call's ports and what flows between them.

use std::net::IpAddr;

use relay_user::media::{Family, MediaError, MediaPlane, MediaPort, SourcePolicy};

use super::{Core, Side, model::Call, trunk::Trunk};
use crate::{config::Ice, sdp::LegPolicy, sip::Headers};

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

    /// Makes the media plane do what offers and answers say now.
    pub(super) fn connect_media(&mut self, call: &Call) -> Result<(), MediaError> {
        let Some(media) = call.negotiation.media() else {
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
    match headers.and_then(|headers| headers.text("X-MS-UserLocation")) {
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
