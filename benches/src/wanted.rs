//! What every report names, and what is wanted of it.

use super::Part;

/// What a ratio or figure is wanted to be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// It stands beside another, for comparison.
    Told,
}

/// A ratio or a figure that a report is not whole without.
pub struct Wanted {
    pub name: &'static str,
    pub bound: Bound,
    /// What measures it.
    pub part: Part,
    pub what: &'static str,
}

const fn wanted(name: &'static str, bound: Bound, part: Part, what: &'static str) -> Wanted {
    Wanted {
        name,
        bound,
        part,
        what,
    }
}

pub const RATIOS: [Wanted; 15] = [
    wanted(
        "fast_vs_limit_1",
        Bound::AtLeast(0.80),
        Part::Fast,
        "fast path ÷ bare redirect, one flow",
    ),
    wanted(
        "fast_vs_limit_100000",
        Bound::AtLeast(0.65),
        Part::Fast,
        "fast path ÷ bare redirect, 100,000 flows",
    ),
    wanted(
        "fast_vs_rtpengine_rtp",
        Bound::AtLeast(15.0),
        Part::Slow,
        "fast path on one CPU ÷ rtpengine on one, receiving included, RTP to RTP",
    ),
    wanted(
        "fast_vs_rtpengine_protect",
        Bound::AtLeast(4.0),
        Part::Slow,
        "fast path on one CPU ÷ rtpengine on one, receiving included, RTP to SRTP",
    ),
    wanted(
        "fast_vs_rtpengine_unprotect",
        Bound::AtLeast(4.0),
        Part::Slow,
        "fast path on one CPU ÷ rtpengine on one, receiving included, SRTP to RTP",
    ),
    wanted(
        "fast_vs_rtpengine_helped_rtp",
        Bound::Told,
        Part::Slow,
        "the same ÷ rtpengine with another CPU that receives for it, RTP to RTP",
    ),
    wanted(
        "fast_vs_rtpengine_helped_protect",
        Bound::Told,
        Part::Slow,
        "the same ÷ rtpengine with another CPU that receives for it, RTP to SRTP",
    ),
    wanted(
        "fast_vs_rtpengine_helped_unprotect",
        Bound::Told,
        Part::Slow,
        "the same ÷ rtpengine with another CPU that receives for it, SRTP to RTP",
    ),
    wanted(
        "slow_vs_rtpengine_rtp",
        Bound::AtLeast(1.7),
        Part::Slow,
        "slow path ÷ rtpengine, RTP to RTP",
    ),
    wanted(
        "slow_vs_rtpengine_protect",
        Bound::AtLeast(1.7),
        Part::Slow,
        "slow path ÷ rtpengine, RTP to SRTP",
    ),
    wanted(
        "slow_vs_rtpengine_unprotect",
        Bound::AtLeast(1.7),
        Part::Slow,
        "slow path ÷ rtpengine, SRTP to RTP",
    ),
    wanted(
        "xdp_protect_vs_libsrtp",
        Bound::AtMost(2.0),
        Part::Cost,
        "time of protecting 160 octets, in the kernel ÷ libsrtp's in userspace",
    ),
    wanted(
        "xdp_unprotect_vs_libsrtp",
        Bound::AtMost(2.0),
        Part::Cost,
        "time of unprotecting 160 octets, in the kernel ÷ libsrtp's in userspace",
    ),
    wanted(
        "xdp_protect_vs_libsrtp_streams",
        Bound::AtMost(2.0),
        Part::Cost,
        "the same for protecting, 1,000 streams by turns",
    ),
    wanted(
        "xdp_unprotect_vs_libsrtp_streams",
        Bound::AtMost(2.0),
        Part::Cost,
        "the same for unprotecting, 1,000 streams by turns",
    ),
];

pub const FIGURES: [Wanted; 17] = [
    wanted(
        "fast_relay_ns",
        Bound::AtMost(120.0),
        Part::Fast,
        "what the fast path adds to a packet's chain, one flow, ns",
    ),
    wanted(
        "torture_parse_worst_us",
        Bound::AtMost(1_000.0),
        Part::Cost,
        "time of parsing the dearest message of RFC 4475, µs",
    ),
    wanted(
        "fast_latency_p99_us",
        Bound::AtMost(50.0),
        Part::Latency,
        "fast path's p99 at half of its rate, µs",
    ),
    wanted(
        "slow_latency_p99_us",
        Bound::AtMost(500.0),
        Part::Latency,
        "slow path's p99 at half of its rate, µs",
    ),
    wanted(
        "rtpengine_latency_p99_us",
        Bound::Told,
        Part::Latency,
        "rtpengine's p99 at half of its rate, µs",
    ),
    wanted(
        "recovered_loss_percent",
        Bound::AtMost(0.1),
        Part::Recovery,
        "loss from one second after an overload or a stop, the worst of both paths, %",
    ),
    wanted(
        "recovered_stale_packets",
        Bound::AtMost(0.0),
        Part::Recovery,
        "packets older than 200 ms that were sent on, the worst of both paths",
    ),
    wanted(
        "recovered_resident_percent",
        Bound::AtMost(5.0),
        Part::Recovery,
        "by how much resident memory had grown afterwards, the worst of both paths, %",
    ),
    wanted(
        "recovered_calls_gone",
        Bound::AtMost(0.0),
        Part::Recovery,
        "calls that were gone afterwards, the worst of both paths",
    ),
    wanted(
        "rtpengine_recovered_loss_percent",
        Bound::Told,
        Part::Recovery,
        "rtpengine's loss after the same overload, %",
    ),
    wanted(
        "calls_per_second_signalling",
        Bound::AtLeast(3_500.0),
        Part::Calls,
        "calls a second until the first failed one, without media",
    ),
    wanted(
        "calls_per_second_media",
        Bound::AtLeast(1_000.0),
        Part::Calls,
        "calls a second until the first failed one, media offloaded",
    ),
    wanted(
        "post_dial_delay_p99_ms",
        Bound::AtMost(5.0),
        Part::Calls,
        "p99 of what is added to post-dial delay at half of that, without media, ms",
    ),
    wanted(
        "post_dial_delay_media_p99_ms",
        Bound::AtMost(5.0),
        Part::Calls,
        "p99 of what is added to post-dial delay at half of that, media offloaded, ms",
    ),
    wanted(
        "calls_held",
        Bound::AtLeast(50_000.0),
        Part::Memory,
        "calls held at once with 20,000 descriptors at most",
    ),
    wanted(
        "resident_bytes_per_call",
        Bound::AtMost(8_192.0),
        Part::Memory,
        "resident memory for each of them, octets",
    ),
    wanted(
        "map_bytes_per_call",
        Bound::AtMost(1_024.0),
        Part::Memory,
        "kernel map memory for each of them, octets",
    ),
];
