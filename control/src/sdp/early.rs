//! A caller's second offer before its call is answered, in PRACK (RFC 3262, section 5): preconditions
//! narrow the codecs so, or the caller has moved.

use rand::CryptoRng;

use super::{
    Negotiation, SdpError, Side,
    crypto::Crypto,
    exchange::{match_answer, take_offer},
    local::Layout,
    remote::Description,
};

impl Negotiation {
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
        let description = Description::parse(body)?;
        let other = &self.leg(from.other()).policy;
        let taken = take_offer(&description, &self.leg(from).policy, other)?;
        let origin = description.origin;
        let titles = description.lines.into_iter().map(|line| line.title);
        let layout = Layout::new(titles, taken.place);
        let before = &exchange.audio;
        if layout.audio() != exchange.layout.audio() {
            return Err(SdpError::Unchangeable("which stream is used"));
        }
        if taken.audio.direction != before.direction {
            return Err(SdpError::Unchangeable("its direction"));
        }
        let credentials = |audio: &super::remote::Audio| {
            let ice = audio.ice.as_deref();
            ice.map(|ice| ice.credentials.clone())
        };
        if credentials(&taken.audio) != credentials(before) {
            return Err(SdpError::Unchangeable("its ICE credentials"));
        }
        let mut kept = Vec::new();
        for (origin, offered) in exchange.origins.iter().zip(&exchange.offered.formats) {
            let is_same = |format: &&super::codec::Format| format.codec == origin.codec;
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
        let crypto = taken.crypto.map(|theirs| {
            let ours = Crypto {
                tag: theirs.tag,
                suite_name: theirs.suite_name.clone(),
                key: self.leg_mut(from).key(theirs.key.suite, random),
            };
            (ours, theirs)
        });
        if let Some(exchange) = &mut self.exchange {
            exchange.audio = taken.audio;
            exchange.layout = layout;
            exchange.crypto = crypto;
            exchange.origins = origins;
            exchange.offered.formats = offered;
        }
        let leg = self.leg_mut(from);
        leg.received = leg.received.wrapping_add(1);
        let local = self.read_audio(from.other(), audio)?;
        self.note_origin(from, origin);
        Ok(self.leg_mut(from).write(&local))
    }
}
