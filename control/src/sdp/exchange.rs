//! The decisions of one offer and its answer, without state.

use relay_user::media::SrtpSuite;

use super::{
    SdpError,
    codec::Format,
    crypto::{self, Crypto},
    local::LocalDescription,
    policy::{CodecFilter, LegPolicy, SrtpPolicy},
    remote::{Audio, Description},
};

/// The audio line of an offer that is used.
pub(super) struct Taken {
    /// Its place among the lines.
    pub(super) place: usize,
    pub(super) audio: Audio,
    /// The offered key that the answer chooses.
    pub(super) crypto: Option<Crypto>,
    /// The formats that both trunks let through.
    pub(super) formats: Vec<Format>,
}

/// Takes the first audio line that both policies allow.
pub(super) fn take_offer(
    description: &Description,
    policy: &LegPolicy,
    other: &LegPolicy,
) -> Result<Taken, SdpError> {
    let mut failure = SdpError::NoAudio;
    for (place, line) in description.lines.iter().enumerate() {
        let taken = match &line.audio {
            None => continue,
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(audio)) => take_audio(place, audio, policy, other),
        };
        match taken {
            Ok(taken) => return Ok(taken),
            // The first line that failed for a reason of its own is the one to speak of.
            Err(error) if failure == SdpError::NoAudio => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

fn take_audio(
    place: usize,
    audio: &Audio,
    policy: &LegPolicy,
    other: &LegPolicy,
) -> Result<Taken, SdpError> {
    // With ICE nothing is sent but to where checks come from.
    if !policy.ice || audio.ice.is_none() {
        audio.check_family(policy.local)?;
    }
    let crypto = choose_crypto(audio, policy.srtp)?;
    let formats = shared_formats(&audio.formats, &policy.codecs, &other.codecs)?;
    Ok(Taken {
        place,
        audio: audio.clone(),
        crypto,
        formats,
    })
}

/// The key of an offer that is answered: the first in the offer's order, but one with a tag of 32
/// bits only when there is no other.
fn choose_crypto(audio: &Audio, policy: SrtpPolicy) -> Result<Option<Crypto>, SdpError> {
    let chosen = || {
        audio
            .crypto
            .iter()
            .find(|crypto| !crypto::is_short(crypto.key.suite))
            .or(audio.crypto.first())
            .cloned()
    };
    match (policy, audio.transport.is_secure()) {
        (SrtpPolicy::Off, true) => Err(SdpError::SrtpNotAllowed),
        (SrtpPolicy::Off, false) => Ok(None),
        (SrtpPolicy::Require | SrtpPolicy::Offer, true) => {
            chosen().map(Some).ok_or(SdpError::SrtpUnusable)
        }
        (SrtpPolicy::Require, false) => chosen().map(Some).ok_or(SdpError::SrtpRequired),
        (SrtpPolicy::Offer, false) => Ok(chosen()),
    }
}

/// The key of an answer to our offer: the line that bears the tag and suite of one of ours, else
/// one that bears the suite.
pub(super) fn answered_crypto(
    audio: &Audio,
    offered: &LocalDescription,
    policy: SrtpPolicy,
) -> Result<Option<Crypto>, SdpError> {
    let answered = |by_tag: bool| {
        audio.crypto.iter().filter(move |line| {
            offered
                .crypto
                .iter()
                .any(|ours| ours.key.suite == line.key.suite && (!by_tag || ours.tag == line.tag))
        })
    };
    let chosen = answered(true)
        .find(|line| line.key.mki.is_none())
        .or_else(|| answered(true).next())
        .or_else(|| answered(false).next());
    match chosen {
        Some(crypto) => Ok(Some(crypto.clone())),
        None if audio.transport.is_secure() && policy == SrtpPolicy::Off => {
            Err(SdpError::SrtpNotAllowed)
        }
        None if audio.transport.is_secure() => Err(SdpError::SrtpUnusable),
        None if policy == SrtpPolicy::Require || offered.transport.is_secure() => {
            Err(SdpError::SrtpRequired)
        }
        None => Ok(None),
    }
}

/// The suites of an offer: the one in use first, so that a refresh keeps it.
pub(super) fn offered_suites(policy: &LegPolicy, in_use: Option<SrtpSuite>) -> Vec<SrtpSuite> {
    let named: &[SrtpSuite] = if policy.suites.is_empty() {
        &LegPolicy::DEFAULT_SUITES
    } else {
        &policy.suites
    };
    let mut suites = Vec::new();
    for suite in in_use.iter().chain(named) {
        if !suites.contains(suite) {
            suites.push(*suite);
        }
    }
    suites
}

/// What both filters let through, in the offer's order. Events and comfort noise go with the last
/// codec of their clock rate.
fn shared_formats(
    formats: &[Format],
    one: &CodecFilter,
    other: &CodecFilter,
) -> Result<Vec<Format>, SdpError> {
    let mut shared: Vec<Format> = formats
        .iter()
        .filter(|format| !format.codec.refers_to_payload_types())
        .filter(|format| one.allows(&format.codec) && other.allows(&format.codec))
        .cloned()
        .collect();
    let voices = |formats: &[Format]| {
        formats
            .iter()
            .filter(|format| format.codec.is_voice())
            .map(|format| format.codec.clock_rate)
            .collect::<Vec<_>>()
    };
    let (before, after) = (voices(formats), voices(&shared));
    if after.is_empty() {
        return Err(SdpError::NoSharedCodec);
    }
    shared.retain(|format| {
        let rate = &format.codec.clock_rate;
        format.codec.is_voice() || after.contains(rate) || !before.contains(rate)
    });
    Ok(shared)
}

/// Pairs the formats of an answer with the offered ones (by place), in the answer's order. The
/// number decides first, then the parameters, then the codec alone; what was not offered is left
/// out.
pub(super) fn match_answer(
    offered: &[Format],
    answered: &[Format],
) -> Result<Vec<(usize, Format)>, SdpError> {
    const RULES: [fn(&Format, &Format) -> bool; 3] = [
        |one, other| one.payload_type == other.payload_type,
        |one, other| one.parameters == other.parameters,
        |_, _| true,
    ];
    let mut matched: Vec<Option<usize>> = vec![None; answered.len()];
    for rule in RULES {
        for (place, answer) in answered.iter().enumerate() {
            if matched.get(place) != Some(&None) {
                continue;
            }
            let found = offered
                .iter()
                .enumerate()
                .find(|(index, offer)| {
                    offer.codec == answer.codec
                        && rule(offer, answer)
                        && !matched.contains(&Some(*index))
                })
                .map(|(index, _)| index);
            if let Some(slot) = matched.get_mut(place) {
                *slot = found;
            }
        }
    }
    let pairs: Vec<(usize, Format)> = matched
        .into_iter()
        .zip(answered)
        .filter_map(|(index, answer)| Some((index?, answer.clone())))
        .collect();
    if pairs.iter().any(|(_, format)| format.codec.is_voice()) {
        Ok(pairs)
    } else {
        Err(SdpError::NoSharedCodec)
    }
}
