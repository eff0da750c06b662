//! Who carries a stream: a pure function of the call's media and of what the machine can do.

use relay_abi::flow::PAYLOAD_TYPES;

use super::{CallMedia, LegMedia, Path, PathReason};

/// What the kernel offers to one call, found out before planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the XDP program runs on the interface of each leg.
    pub xdp: [bool; 2],
    /// Whether the kernel's tables have room for the call's flows.
    pub room: bool,
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
            .or((!capabilities.room).then_some(PathReason::Capacity));
        reason.map_or(Path::Xdp, Path::Userspace)
    })
}

/// A reason that holds for both streams, if there is one.
fn shared_reason(media: &CallMedia, capabilities: &Capabilities) -> Option<PathReason> {
    let [first, second] = &media.legs;
    if capabilities.xdp != [true, true] {
        Some(PathReason::NoXdp)
    } else if first.srtp.is_some() || second.srtp.is_some() {
        Some(PathReason::Srtp)
    } else if is_ipv4(first) != is_ipv4(second) {
        Some(PathReason::AddressFamily)
    } else {
        None
    }
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
        room: true,
    };

    fn keys() -> SrtpKeys {
        let key = SrtpKey {
            suite: SrtpSuite::AesCm128HmacSha1_80,
            master: vec![7; 30].into(),
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
            let mut secured = call();
            secured.legs[leg].srtp = Some(keys());
            assert_eq!(plan(&secured, &ALL), userspace(PathReason::Srtp));

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
        ) {
            let mut media = call();
            for side in [0, 1] {
                let leg = &mut media.legs[side];
                leg.srtp = secured[side].then(keys);
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
            let capabilities = Capabilities { xdp, room };
            let paths = plan(&media, &capabilities);

            let mut swapped = media.clone();
            swapped.legs.reverse();
            swapped.streams.reverse();
            let mut reversed = plan(&swapped, &Capabilities { xdp: [xdp[1], xdp[0]], room });
            reversed.reverse();
            prop_assert_eq!(paths, reversed);

            for side in [0, 1] {
                let able = xdp == [true, true]
                    && room
                    && secured == [false, false]
                    && ipv6[0] == ipv6[1]
                    && usize::from(counts[side]) <= PAYLOAD_TYPES;
                prop_assert_eq!(paths[side] == Path::Xdp, able);
            }
        }
    }
}
