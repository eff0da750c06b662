//! Offers that nobody has just made: where an INVITE comes without one, where a session is
//! refreshed, and where another peer takes a leg over (RFC 3725's ways of third-party control).

use rand::CryptoRng;
use relay_user::media::MediaPort;

use super::{
    Direction, Negotiation, SdpError,
    agreement::of,
    codec::{Codec, Format, of_static},
    crypto::Crypto,
    exchange::{Taken, take_offer},
    leg::LegState,
    local::Layout,
    policy::{LegPolicy, Side},
    remote::{Audio, Description, Transport},
};

/// What is offered when nobody has said what the caller can do: what every telephone can.
const COMMON: [u8; 2] = [8, 0];
/// Offered only where a trunk names them.
const NAMED: [u8; 4] = [9, 8, 0, 18];

impl Negotiation {
    /// Makes an offer to `to` of what was agreed, in the name of the other side, which is not
    /// asked. Its answer is taken by [`Negotiation::take_answer`]. A new peer on the other side has
    /// said nothing yet of where it is and with which keys.
    ///
    /// # Errors
    /// [`SdpError::OfferPending`], [`SdpError::NotPending`] when nothing was agreed yet, and
    /// [`SdpError::NoSharedCodec`] when the leg's trunk allows no codec in use.
    pub fn offer_again<R: CryptoRng + ?Sized>(
        &mut self,
        to: Side,
        direction: Option<Direction>,
        random: &mut R,
    ) -> Result<String, SdpError> {
        if self.exchange.is_some() {
            return Err(SdpError::OfferPending);
        }
        let from = to.other();
        let agreed = self.agreed.as_ref().ok_or(SdpError::NotPending)?;
        let leg = of(&agreed.legs, from);
        let is_fresh = self.fresh == Some(from);
        let mut said = Vec::new();
        let mut formats = Vec::new();
        for format in &agreed.formats {
            let (theirs, ours) = (*of(&format.theirs, from), *of(&format.ours, from));
            let is_allowed = |side| self.leg(side).policy.codecs.allows(&format.codec);
            if !is_allowed(to) || is_fresh && !is_allowed(from) {
                continue;
            }
            said.push((theirs, ours));
            formats.push(Format {
                payload_type: theirs,
                codec: format.codec.clone(),
                parameters: format.parameters(from),
            });
        }
        let known = Some(leg).filter(|_| !is_fresh);
        let keys = known.and_then(|leg| leg.srtp());
        let crypto = keys.map(|keys| Crypto::new(1, keys.unprotect.clone()));
        let ice = known.and_then(|leg| leg.ice());
        let audio = Audio {
            transport: leg.transport,
            remote: known.and_then(|leg| leg.remote),
            formats: formats.clone(),
            direction: direction.unwrap_or(leg.direction),
            rtcp_mux: leg.rtcp_mux,
            crypto: crypto.iter().cloned().collect(),
            ice: ice.map(|ice| Box::new(ice.theirs.clone())),
            ptime: known.and_then(|leg| leg.ptime),
            maxptime: known.and_then(|leg| leg.maxptime),
        };
        let layout = known.map(|leg| leg.layout.clone()).unwrap_or_default();
        let taken = Taken {
            place: layout.audio(),
            audio,
            crypto,
            formats,
        };
        let body = self.make_offer(from, taken, layout, random)?;
        if let Some(exchange) = &mut self.exchange {
            exchange.said = Some(said);
        }
        Ok(body)
    }

    /// The answer to an offer of a leg's that changes nothing, as one that refreshes a session does:
    /// the other side is not asked, and what was agreed stays. Also while another offer is on its
    /// way.
    ///
    /// # Errors
    /// [`SdpError::Unchangeable`] when the offer would change something, or says that it does by its
    /// `o=` line (RFC 3264, section 8); [`SdpError::NotPending`] when there is nothing agreed with the
    /// leg yet; and whatever makes an offer unusable.
    pub fn answer_unchanged<R: CryptoRng + ?Sized>(
        &mut self,
        from: Side,
        body: &[u8],
        random: &mut R,
    ) -> Result<String, SdpError> {
        let changed = SdpError::Unchangeable("what was agreed");
        if self.fresh.is_some() {
            return Err(SdpError::NotPending);
        }
        if Description::parse(body)?.origin != self.leg(from).origin {
            return Err(changed);
        }
        let mut copy = Self {
            legs: self.legs.clone(),
            exchange: None,
            agreed: self.agreed.clone(),
            fresh: None,
        };
        let before = copy.media().ok_or(SdpError::NotPending)?;
        copy.offer(from, body, random)?;
        let audio = copy.said_again(from.other())?;
        let answer = copy.read_audio(from.other(), audio)?;
        let mut after = copy.media().ok_or(SdpError::NotPending)?;
        for (after, before) in after.legs.iter_mut().zip(&before.legs) {
            after.negotiation = before.negotiation;
        }
        if after != before {
            return Err(changed);
        }
        let body = copy.leg_mut(from).write(&answer);
        let mut leg = copy.leg(from).clone();
        leg.received = self.leg(from).received;
        *self.leg_mut(from) = leg;
        Ok(body)
    }

    /// Answers the offer on its way for a leg with what it has agreed to before, without asking it.
    ///
    /// # Errors
    /// As [`Negotiation::answer`].
    pub fn answer_again(&mut self, from: Side) -> Result<String, SdpError> {
        let audio = self.said_again(from)?;
        let answer = self.read_audio(from, audio)?;
        Ok(self.leg_mut(from.other()).write(&answer))
    }

    /// What a leg has agreed to, as its answer to the offer on its way.
    fn said_again(&self, side: Side) -> Result<Audio, SdpError> {
        let agreed = self.agreed.as_ref().ok_or(SdpError::NotPending)?;
        let leg = of(&agreed.legs, side);
        let formats = agreed.formats.iter().map(|format| Format {
            payload_type: *of(&format.theirs, side),
            codec: format.codec.clone(),
            parameters: format.parameters(side),
        });
        let keys = leg.srtp();
        Ok(Audio {
            transport: leg.transport,
            remote: leg.remote,
            formats: formats.collect(),
            direction: leg.direction,
            rtcp_mux: leg.rtcp_mux,
            crypto: keys
                .map(|keys| Crypto::new(1, keys.unprotect.clone()))
                .into_iter()
                .collect(),
            ice: leg.ice().map(|ice| Box::new(ice.theirs.clone())),
            ptime: leg.ptime,
            maxptime: leg.maxptime,
        })
    }

    /// Makes the first offer of a call to `to` before the other side has said anything: of the
    /// codecs that both trunks name, or of G.711, with telephone events. The other side is offered
    /// the answer with [`Negotiation::offer_again`].
    ///
    /// # Errors
    /// [`SdpError::OfferPending`]; [`SdpError::NoSharedCodec`] when the trunks name none that can
    /// be offered unasked.
    pub fn offer_unasked<R: CryptoRng + ?Sized>(
        &mut self,
        to: Side,
        random: &mut R,
    ) -> Result<String, SdpError> {
        if self.exchange.is_some() {
            return Err(SdpError::OfferPending);
        }
        let from = to.other();
        let (one, other) = (&self.leg(from).policy.codecs, &self.leg(to).policy.codecs);
        let choice: &[u8] = if one.is_open() && other.is_open() {
            &COMMON
        } else {
            &NAMED
        };
        let mut formats: Vec<Format> = choice
            .iter()
            .filter_map(|number| {
                Some(Format {
                    payload_type: *number,
                    codec: of_static(*number)?,
                    parameters: Box::default(),
                })
            })
            .filter(|format| one.allows(&format.codec) && other.allows(&format.codec))
            .collect();
        if formats.is_empty() {
            return Err(SdpError::NoSharedCodec);
        }
        formats.push(Format {
            payload_type: 101,
            codec: Codec {
                name: "telephone-event".into(),
                clock_rate: 8000,
                channels: 1,
            },
            parameters: Box::new(["0-16".to_owned()]),
        });
        let audio = Audio {
            transport: Transport::Avp,
            remote: None,
            formats: formats.clone(),
            direction: Direction::SendReceive,
            rtcp_mux: false,
            crypto: Vec::new(),
            ice: None,
            ptime: None,
            maxptime: None,
        };
        let taken = Taken {
            place: 0,
            audio,
            crypto: None,
            formats,
        };
        let body = self.make_offer(from, taken, Layout::default(), random)?;
        self.fresh = Some(from);
        if let Some(exchange) = &mut self.exchange {
            exchange.said = Some(Vec::new());
        }
        Ok(body)
    }

    /// The same call with another peer on a leg, which has said nothing yet. What the other leg
    /// has agreed to, its session and its keys stay; an exchange on its way is left out.
    pub fn with_new_peer<R: CryptoRng + ?Sized>(
        &self,
        side: Side,
        policy: LegPolicy,
        random: &mut R,
    ) -> Self {
        let mut legs = self.legs.clone();
        let fresh = LegState::new(policy, random);
        let [a, b] = &mut legs;
        match side {
            Side::A => *a = fresh,
            Side::B => *b = fresh,
        }
        Self {
            legs,
            exchange: None,
            agreed: self.agreed.clone(),
            fresh: Some(side),
        }
    }

    /// The call of this leg `mine` and of leg `theirs` of another call, which know nothing of
    /// each other yet. Each is to be offered the other anew.
    pub fn joined(&self, mine: Side, other: &Self, theirs: Side) -> Self {
        let mut legs = self.legs.clone();
        let taken = other.leg(theirs).clone();
        let mut agreed = self.agreed.clone();
        let place = mine.other();
        if let (Some(agreed), Some(from)) = (&mut agreed, &other.agreed) {
            let [a, b] = &mut agreed.legs;
            let leg = of(&from.legs, theirs).clone();
            match place {
                Side::A => *a = leg,
                Side::B => *b = leg,
            }
            agreed.formats = agreed
                .formats
                .iter()
                .filter_map(|format| {
                    let shared = from.formats.iter().find(|one| one.codec == format.codec)?;
                    Some(format.with(place, shared, theirs))
                })
                .collect();
        }
        let [a, b] = &mut legs;
        match place {
            Side::A => *a = taken,
            Side::B => *b = taken,
        }
        Self {
            legs,
            exchange: None,
            agreed,
            fresh: None,
        }
    }

    /// Notes where the peer of a leg with ICE is that comes from another call.
    pub fn locate(&mut self, side: Side, peer: Option<std::net::SocketAddr>) {
        let Some(agreed) = &mut self.agreed else {
            return;
        };
        let [a, b] = &mut agreed.legs;
        let leg = match side {
            Side::A => a,
            Side::B => b,
        };
        if let Some(ice) = leg.secrets.as_mut().and_then(|one| one.ice.as_mut()) {
            ice.media.known = peer;
        }
    }

    /// Whether an offer comes from another endpoint than the leg's last description: by a key and
    /// by ICE credentials of its own, where the leg has these.
    ///
    /// # Errors
    /// What makes the offer unusable.
    pub fn is_elsewhere(&self, side: Side, body: &[u8]) -> Result<bool, SdpError> {
        let Some(agreed) = &self.agreed else {
            return Ok(true);
        };
        let other = &self.leg(side.other()).policy;
        let audio = take_offer(&Description::parse(body)?, &self.leg(side).policy, other)?.audio;
        let leg = of(&agreed.legs, side);
        let has_key = leg.srtp().is_some_and(|keys| {
            let mut offered = audio.crypto.iter();
            offered.any(|line| line.key.master == keys.unprotect.master)
        });
        let has_ice = leg.ice().is_some_and(|before| {
            let offered = audio.ice.as_deref();
            offered.is_none_or(|offered| offered.credentials == before.theirs.credentials)
        });
        Ok(!has_key && !has_ice)
    }

    /// Lets our descriptions on a leg name another port, from the next one on.
    pub fn relocate(&mut self, side: Side, port: MediaPort) {
        self.leg_mut(side).policy.local = port;
    }

    /// Takes how a leg's own descriptions stand in another negotiation: its session's version and
    /// what its payload types mean; and, where the offer on its way was made in its name, where it is
    /// and with which keys.
    pub fn adopt(&mut self, side: Side, other: &Self) {
        *self.leg_mut(side) = other.leg(side).clone();
        let offered = self.exchange.as_mut();
        let offered = offered.filter(|one| one.offerer == side && one.said.is_some());
        if let (Some(exchange), Some(agreed)) = (offered, &other.agreed) {
            let leg = of(&agreed.legs, side);
            exchange.audio.remote = leg.remote;
            exchange.audio.ice = leg.ice().map(|ice| Box::new(ice.theirs.clone()));
            if let (Some((_, theirs)), Some(keys)) = (&mut exchange.crypto, leg.srtp()) {
                theirs.key = keys.unprotect.clone();
            }
        }
    }

    /// Whether the answer leaves out what the side has agreed to in whose name the offer was made:
    /// it has to be told, or would go on sending that.
    #[must_use]
    pub fn is_narrowed(&self) -> bool {
        let exchange = self.exchange.as_deref();
        let made = exchange.filter(|one| one.said.is_some() && self.fresh != Some(one.offerer));
        let answer = made.and_then(|one| one.answer.as_ref());
        let before = self.agreed.as_ref().map(|agreed| agreed.formats.len());
        answer.is_some_and(|answer| Some(answer.agreement.formats.len()) < before)
    }

    /// As [`Negotiation::answer`], where the other side is not told: the offer was made in its
    /// name.
    ///
    /// # Errors
    /// As [`Negotiation::answer`].
    pub fn take_answer(&mut self, from: Side, body: &[u8]) -> Result<(), SdpError> {
        self.read_answer(from, body).map(drop)
    }
}
