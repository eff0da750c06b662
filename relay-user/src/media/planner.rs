//! Who carries a stream: a pure function of the call's media and of what the machine can do.

use relay_abi::flow::PAYLOAD_TYPES;

use super::{CallMedia, LegMedia, Path, PathReason, SrtpSuite};

/// What the kernel offers to one call, found out before planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the XDP program runs on the interface of each leg.
    pub xdp: [bool; 2],
    /// What the kernel does with SRTP.
    pub srtp: SrtpOffload,
    /// Whether every key of each stream has a row in the kernel's table; a stream without keys
    /// lacks none.
    pub rows: [bool; 2],
    /// Whether the kernel's tables have room for the call's flows.
    pub room: bool,
}

/// Whether SRTP goes through the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SrtpOffload {
    /// By its own program.
    Loaded,
    /// The kernel did not take the program.
    #[default]
    NotLoaded,
    /// The configuration says no.
    Off,
}

impl SrtpSuite {
    /// Why a stream of this suite is not the kernel's; `None` if it can be.
    #[must_use]
    pub const fn unserved(self) -> Option<PathReason> {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => None,
            Self::AesCm256HmacSha1_80 | Self::AesCm256HmacSha1_32 => Some(PathReason::SrtpAes256),
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => Some(PathReason::SrtpGcm),
        }
    }
}

/// The path of each stream: first from leg 0 to leg 1, then from leg 1 to leg 0. Where several
/// reasons keep a stream in userspace, the one that lasts longest is told: what the machine lacks,
/// then what the call asks for, then what is full just now.
#[must_use]
pub fn plan(media: &CallMedia, capabilities: &Capabilities) -> [Path; 2] {
    let shared = shared_reason(media, capabilities);
    [0, 1].map(|direction: usize| {
        let payload_types = media
            .streams
            .get(direction)
            .map_or(0, |stream| stream.payload_types.len());
        let reason = shared
            .or((payload_types > PAYLOAD_TYPES).then_some(PathReason::PayloadTypes))
            .or((!capabilities.room).then_some(PathReason::Capacity))
            .or((capabilities.rows.get(direction) == Some(&false))
                .then_some(PathReason::SrtpStreams));
        reason.map_or(Path::Xdp, Path::Userspace)
    })
}

/// Whether the kernel can serve the call's keys, as far as the call and the machine decide.
pub(super) fn is_srtp_offloadable(media: &CallMedia, capabilities: &Capabilities) -> bool {
    capabilities.srtp == SrtpOffload::Loaded && shared_reason(media, capabilities).is_none()
}

/// A reason that holds for both streams, if there is one: each has something to do with the keys
/// of both legs.
fn shared_reason(media: &CallMedia, capabilities: &Capabilities) -> Option<PathReason> {
    let [first, second] = &media.legs;
    if capabilities.xdp != [true, true] {
        return Some(PathReason::NoXdp);
    }
    let secured = first.srtp.is_some() || second.srtp.is_some();
    match capabilities.srtp {
        SrtpOffload::NotLoaded if secured => return Some(PathReason::SrtpNotLoaded),
        SrtpOffload::Off if secured => return Some(PathReason::SrtpOff),
        _ => {}
    }
    if is_ipv4(first) != is_ipv4(second) {
        return Some(PathReason::AddressFamily);
    }
    let mut suites = [first, second]
        .into_iter()
        .filter_map(|leg| leg.srtp.as_ref())
        .flat_map(|keys| [keys.protect.suite, keys.unprotect.suite]);
    suites.find_map(SrtpSuite::unserved)
}

/// SDP of one family never leads to media of the other: the local address decides.
fn is_ipv4(leg: &LegMedia) -> bool {
    leg.port.rtp.is_ipv4()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::{
        Latching, MediaPort, SourcePolicy, SrtpKey, SrtpKeys, SrtpSuite, Stream, tests::call,
    };

    const ALL: Capabilities = Capabilities {
        xdp: [true, true],
        srtp: SrtpOffload::Loaded,
        rows: [true, true],
        room: true,
    };

    fn keys(suite: SrtpSuite) -> SrtpKeys {
        let key = SrtpKey {
            suite,
            master: vec![7; suite.master_length()].into(),
            mki: None,
        };
        SrtpKeys {
            protect: key.clone(),
            unprotect: key,
        }
    }

    #[test]
    fn plain_audio_goes_through_the_kernel() {
        assert_eq!(plan(&call(), &ALL), [Path::Xdp, Path::Xdp]);
    }

    #[test]
    fn a_held_stream_keeps_its_path() {
        let mut held = call();
        held.streams[0].active = false;
        assert_eq!(plan(&held, &ALL), [Path::Xdp, Path::Xdp]);
    }

    #[test]
    fn each_reason_is_told() {
        let userspace = |reason| [Path::Userspace(reason), Path::Userspace(reason)];
        for xdp in [[false, true], [true, false], [false, false]] {
            let lacking = Capabilities { xdp, ..ALL };
            assert_eq!(plan(&call(), &lacking), userspace(PathReason::NoXdp));
        }
        for leg in [0, 1] {
            for (suite, reason) in [
                (SrtpSuite::AesCm256HmacSha1_80, PathReason::SrtpAes256),
                (SrtpSuite::AesCm256HmacSha1_32, PathReason::SrtpAes256),
                (SrtpSuite::AeadAes128Gcm, PathReason::SrtpGcm),
                (SrtpSuite::AeadAes256Gcm, PathReason::SrtpGcm),
            ] {
                let mut secured = call();
                secured.legs[leg].srtp = Some(keys(suite));
                assert_eq!(plan(&secured, &ALL), userspace(reason), "{suite:?}");
            }
            for suite in [
                SrtpSuite::AesCm128HmacSha1_80,
                SrtpSuite::AesCm128HmacSha1_32,
            ] {
                let mut secured = call();
                secured.legs[leg].srtp = Some(keys(suite));
                assert_eq!(plan(&secured, &ALL), [Path::Xdp, Path::Xdp], "{suite:?}");
                for (srtp, reason) in [
                    (SrtpOffload::NotLoaded, PathReason::SrtpNotLoaded),
                    (SrtpOffload::Off, PathReason::SrtpOff),
                ] {
                    let lacking = Capabilities { srtp, ..ALL };
                    assert_eq!(plan(&secured, &lacking), userspace(reason));
                    assert_eq!(plan(&call(), &lacking), [Path::Xdp, Path::Xdp]);
                }
                let full = Capabilities {
                    rows: [true, false],
                    ..ALL
                };
                let reason = Path::Userspace(PathReason::SrtpStreams);
                assert_eq!(plan(&secured, &full), [Path::Xdp, reason]);
            }

            let mut mixed = call();
            mixed.legs[leg].port = MediaPort {
                rtp: "[2001:db8::1]:20000".parse().unwrap(),
            };
            assert_eq!(plan(&mixed, &ALL), userspace(PathReason::AddressFamily));
        }
        let full = Capabilities { room: false, ..ALL };
        assert_eq!(plan(&call(), &full), userspace(PathReason::Capacity));
    }

    #[test]
    fn payload_types_count_for_their_own_stream_only() {
        let mut many = call();
        many.streams[1].payload_types = (96..105).map(|number| (number, number)).collect();
        assert_eq!(
            plan(&many, &ALL),
            [Path::Xdp, Path::Userspace(PathReason::PayloadTypes)]
        );
        many.streams[1].payload_types.pop();
        assert_eq!(plan(&many, &ALL), [Path::Xdp, Path::Xdp]);
    }

    proptest! {
        /// Swapping the legs swaps the paths; and the kernel is never given what it cannot do.
        #[test]
        fn plans_are_symmetric_and_never_promise_too_much(
            secured in any::<[bool; 2]>(),
            ipv6 in any::<[bool; 2]>(),
            active in any::<[bool; 2]>(),
            counts in prop::array::uniform2(0_u8..20),
            xdp in any::<[bool; 2]>(),
            room in any::<bool>(),
            strict in any::<bool>(),
            rows in any::<[bool; 2]>(),
            suite in prop::sample::select(SrtpSuite::ALL.to_vec()),
            srtp in prop::sample::select(vec![
                SrtpOffload::Loaded, SrtpOffload::NotLoaded, SrtpOffload::Off,
            ]),
        ) {
            let mut media = call();
            for side in [0, 1] {
                let leg = &mut media.legs[side];
                leg.srtp = secured[side].then(|| keys(suite));
                if ipv6[side] {
                    leg.port.rtp = "[2001:db8::1]:20000".parse().unwrap();
                }
                if strict {
                    leg.sources = SourcePolicy { latching: Latching::Strict, allowed: vec![] };
                }
                media.streams[side] = Stream {
                    active: active[side],
                    payload_types: (0..counts[side]).map(|number| (number, number)).collect(),
                    clock_rate: 8000,
                };
            }
            let capabilities = Capabilities { xdp, srtp, rows, room };
            let paths = plan(&media, &capabilities);

            let mut swapped = media.clone();
            swapped.legs.reverse();
            swapped.streams.reverse();
            let mut reversed = plan(&swapped, &Capabilities {
                xdp: [xdp[1], xdp[0]],
                rows: [rows[1], rows[0]],
                ..capabilities
            });
            reversed.reverse();
            prop_assert_eq!(paths, reversed);

            for side in [0, 1] {
                let able = xdp == [true, true]
                    && room
                    && rows[side]
                    && (secured == [false, false]
                        || (srtp == SrtpOffload::Loaded && suite.unserved().is_none()))
                    && ipv6[0] == ipv6[1]
                    && usize::from(counts[side]) <= PAYLOAD_TYPES;
                prop_assert_eq!(paths[side] == Path::Xdp, able);
            }
        }
    }
}
