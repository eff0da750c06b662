//! Second offers before a call is answered, in PRACK (RFC 3262, section 5) and in UPDATE (RFC 3311):
//! preconditions narrow the codecs so, or a side has moved.

use rand::CryptoRng;

use super::{
    Negotiation, SdpError, Side,
    codec::Format,
    exchange::{Taken, match_answer},
    ice::LocalIce,
    local::{Layout, LocalDescription},
    negotiation::{Before, Exchange},
    remote::Audio,
};

impl Negotiation {
    /// The answer to a further offer of either side's, when the first one has an answer that is not
    /// committed and what the other side has said or been told stays.
    ///
    /// # Errors
    /// As [`Negotiation::offer_early`].
    pub fn offer_further<R: CryptoRng + ?Sized>(
        &mut self,
        from: Side,
        body: &[u8],
        random: &mut R,
    ) -> Result<String, SdpError> {
        if self.pending() == Some(from) {
            self.offer_early(from, body, random)
        } else {
            self.offer_back(from, body, random)
        }
    }

    /// As [`Negotiation::offer`], when the offer before has an answer that is not committed. That
    /// holds again after [`Negotiation::rollback`].
    ///
    /// # Errors
    /// As [`Negotiation::offer`]; [`SdpError::NotPending`] when there is no such answer, or to an offer
    /// that nobody has made.
    pub fn offer_onward<R: CryptoRng + ?Sized>(
        &mut self,
        from: Side,
        body: &[u8],
        random: &mut R,
    ) -> Result<String, SdpError> {
        let agreement = self.exchange.as_ref().and_then(|exchange| {
            let answer = exchange.answer.as_ref();
            answer.filter(|_| exchange.said.is_none())
        });
        let agreement = agreement.ok_or(SdpError::NotPending)?.agreement.clone();
        let mut exchange = self.exchange.take().ok_or(SdpError::NotPending)?;
        // Of those before, the first is what other branches have been offered.
        while let Some(first) = exchange
            .before
            .as_mut()
            .and_then(|before| before.exchange.before.take())
        {
            exchange.before = Some(first);
        }
        let agreed = self.agreed.replace(agreement);
        let before = Before { exchange, agreed };
        let offered = self.offer(from, body, random);
        match (&offered, &mut self.exchange) {
            (Ok(_), Some(exchange)) => exchange.before = Some(before),
            _ => (self.exchange, self.agreed) = (Some(before.exchange), before.agreed),
        }
        offered
    }

    /// Another branch answers the first offer: those after it were made to another one.
    pub fn return_to_first(&mut self) {
        let has_before = |exchange: &Exchange| exchange.before.is_some();
        while self.exchange.as_deref().is_some_and(has_before) {
            self.rollback();
        }
    }

    /// The offer in `body` came from `from`, whose first one has an answer that is not committed:
    /// gives the answer to it. The other side is not asked, so what it has answered must hold: the
    /// stream, its direction and its voice codecs.
    ///
    /// # Errors
    /// [`SdpError::NotPending`] and [`SdpError::OfferPending`] when there is nothing to change yet,
    /// [`SdpError::Unchangeable`], and whatever makes an offer unusable.
    pub fn offer_early<R: CryptoRng + ?Sized>(
        &mut self,
        from: Side,
        body: &[u8],
        random: &mut R,
    ) -> Result<String, SdpError> {
        let exchange = self
            .exchange
            .as_ref()
            .filter(|exchange| exchange.offerer == from && exchange.said.is_none())
            .ok_or(SdpError::NotPending)?;
        let answer = exchange.answer.as_ref().ok_or(SdpError::OfferPending)?;
        let before = &exchange.audio;
        let (taken, layout, origin) = self.read_further(from, body, before)?;
        if layout.audio() != exchange.layout.audio() {
            return Err(SdpError::Unchangeable("which stream is used"));
        }
        if taken.audio.direction != before.direction {
            return Err(SdpError::Unchangeable("its direction"));
        }
        let mut kept = Vec::new();
        for (origin, offered) in exchange.origins.iter().zip(&exchange.offered.formats) {
            let is_same = |format: &&Format| format.codec == origin.codec;
            let mut formats = taken.formats.iter().filter(is_same);
            let by_number = formats
                .clone()
                .find(|format| format.payload_type == origin.payload_type);
            if let Some(format) = by_number.or_else(|| formats.next()) {
                kept.push((format.clone(), offered.clone()));
            }
        }
        let (origins, offered): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let voices = |offered| {
            let matched = match_answer(offered, &answer.audio.formats)?;
            let voices = matched.iter().filter(|(_, it)| it.codec.is_voice());
            Ok::<usize, SdpError>(voices.count())
        };
        if voices(&offered) != voices(&exchange.offered.formats) {
            return Err(SdpError::Unchangeable(
                "a codec that the callee has answered with",
            ));
        }
        let audio = answer.audio.clone();
        let leg = self.leg_mut(from);
        let crypto = taken
            .crypto
            .map(|theirs| (leg.crypto(&theirs, random), theirs));
        leg.received = leg.received.wrapping_add(1);
        if let Some(exchange) = &mut self.exchange {
            exchange.audio = taken.audio;
            exchange.layout = layout;
            exchange.crypto = crypto;
            exchange.origins = origins;
            exchange.offered.formats = offered;
        }
        let local = self.read_audio(from.other(), audio)?;
        self.note_origin(from, origin);
        Ok(self.leg_mut(from).write(&local))
    }

    /// The offer in `body` came from `from`, whose answer to the one on its way is not committed: gives
    /// the answer to it. The side that offered first is not asked, so what it was told must hold: the
    /// stream, its direction and the codecs. Nothing has to hold where it was told nothing, as the
    /// offer was made in its name. The answer to that offer is then this one, for
    /// [`Negotiation::repeat_answer`].
    ///
    /// # Errors
    /// As [`Negotiation::offer_early`].
    pub fn offer_back<R: CryptoRng + ?Sized>(
        &mut self,
        from: Side,
        body: &[u8],
        random: &mut R,
    ) -> Result<String, SdpError> {
        let exchange = self
            .exchange
            .as_ref()
            .filter(|exchange| exchange.offerer == from.other())
            .ok_or(SdpError::NotPending)?;
        let before = &exchange
            .answer
            .as_ref()
            .ok_or(SdpError::OfferPending)?
            .audio;
        let offerer = &self.leg(exchange.offerer).policy;
        let policy = &self.leg(from).policy;
        let (taken, layout, origin) = self.read_further(from, body, before)?;
        if !layout.is_like(&exchange.offered.layout) {
            return Err(SdpError::Unchangeable("which streams there are"));
        }
        let offered = &exchange.offered.formats;
        let matched = match_answer(offered, &taken.formats)?;
        let mut formats = Vec::new();
        for (place, format) in &matched {
            let ours = offered.get(*place);
            let is_same = |ours: &&Format| ours.payload_type == format.payload_type;
            let ours = ours.filter(is_same);
            formats.push(
                ours.ok_or(SdpError::Unchangeable("its payload types"))?
                    .clone(),
            );
        }
        let crypto = taken.crypto;
        let audio = Audio {
            formats: taken.formats,
            crypto: crypto.iter().cloned().collect(),
            ptime: before.ptime,
            maxptime: before.maxptime,
            ..taken.audio
        };
        let is_told = exchange.said.is_none();
        let told = match_answer(offered, &before.formats)?;
        let told = exchange.answer_for(offerer, before, &told);
        if is_told && exchange.answer_for(offerer, &audio, &matched) != told {
            return Err(SdpError::Unchangeable("what the other side was told"));
        }
        let rtcp_mux = audio.rtcp_mux && policy.rtcp_mux;
        let mut answer = LocalDescription {
            port: policy.local,
            transport: audio.transport,
            formats,
            direction: exchange.offered.direction.within(audio.direction),
            crypto: Vec::new(),
            ice: exchange.ice[1].as_ref().map(|ice| LocalIce {
                credentials: ice.own.clone(),
                rtcp: !rtcp_mux,
            }),
            rtcp_mux,
            rtcp_shared: rtcp_mux,
            ptime: exchange.audio.ptime,
            maxptime: exchange.audio.maxptime,
            layout,
        };
        self.read_audio(from, audio)?;
        self.note_origin(from, origin);
        let leg = self.leg_mut(from);
        let crypto = crypto.iter().map(|theirs| leg.crypto(theirs, random));
        answer.crypto = crypto.collect();
        Ok(leg.write(&answer))
    }

    /// As [`Negotiation::read_offer`], after what the leg has said before.
    fn read_further(
        &self,
        from: Side,
        body: &[u8],
        before: &Audio,
    ) -> Result<(Taken, Layout, u64), SdpError> {
        let read = self.read_offer(from, body)?;
        let credentials = |audio: &Audio| Some(audio.ice.as_deref()?.credentials.clone());
        if credentials(&read.0.audio) != credentials(before) {
            return Err(SdpError::Unchangeable("its ICE credentials"));
        }
        Ok(read)
    }

    /// The answer that stands, for the side that offered, once more.
    ///
    /// # Errors
    /// [`SdpError::NotPending`] when there is none.
    pub fn repeat_answer(&mut self) -> Result<String, SdpError> {
        let exchange = self.exchange.as_ref().ok_or(SdpError::NotPending)?;
        let answer = exchange.answer.as_ref().ok_or(SdpError::NotPending)?;
        let (offerer, audio) = (exchange.offerer, answer.audio.clone());
        let local = self.read_audio(offerer.other(), audio)?;
        Ok(self.leg_mut(offerer).write(&local))
    }
}
