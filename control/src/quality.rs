//! How a stream sounds, estimated from what arrived: the E-model (ITU-T G.107, 06/2015) with its
//! default values, so that only loss, delay and the codec are left.
//!
//! R = 93.2 − Id − Ie,eff, where 93.2 is what the defaults leave (G.107, section 7.7).
//!
//! - Ie,eff = Ie + (95 − Ie) · Ppl / (Ppl + Bpl) for losses at random (G.107, section 7.5, with
//!   BurstR = 1); Ie and Bpl by codec from G.113, appendix I.
//! - Id = 0.024 d + 0.11 (d − 177.3) above 177.3 ms, the usual straight-line form of G.107, section
//!   7.4 (Cole and Rosenbluth, "Voice over IP performance monitoring", 2001). A relay does not see
//!   the whole way from mouth to ear: d counts one packet of 20 ms and a jitter buffer of twice the
//!   jitter, and nothing for the network.
//! - MOS from R by G.107, annex B.
//!
//! It is an estimate of the narrow-band scale, which ends at 4.4: wide-band codecs are held to it
//! too.

/// The rating without any impairment of the network or the codec.
const BEST_RATING: f64 = 93.2;
/// One packet's worth of sound, in milliseconds.
const PACKET_MS: f64 = 20.0;

/// An estimate for one stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// The transmission rating R, from 0 to 93.2.
    pub rating: f64,
    /// The mean opinion score, from 1 (bad) to 4.4 (as good as a telephone gets).
    pub mos: f64,
}

/// The quality of a stream of `codec` (its name in SDP) of which `received` packets came and
/// `lost` did not, with an interarrival jitter in milliseconds (RFC 3550, section 6.4.1). `None`
/// when no packet was due.
#[must_use]
pub fn estimate(codec: &str, received: u64, lost: u64, jitter_ms: f64) -> Option<Quality> {
    let due = received.checked_add(lost).filter(|due| *due != 0)?;
    let lost_percent = lost as f64 / due as f64 * 100.0;
    let jitter_ms = if jitter_ms.is_finite() {
        jitter_ms.max(0.0)
    } else {
        0.0
    };
    let delay = delay_impairment(PACKET_MS + 2.0 * jitter_ms);
    let equipment = equipment_impairment(codec, lost_percent);
    let rating = (BEST_RATING - delay - equipment).clamp(0.0, BEST_RATING);
    Some(Quality {
        rating,
        mos: opinion(rating),
    })
}

fn delay_impairment(delay_ms: f64) -> f64 {
    0.024 * delay_ms + 0.11 * (delay_ms - 177.3).max(0.0)
}

fn equipment_impairment(codec: &str, lost_percent: f64) -> f64 {
    let (impairment, robustness) = robustness(codec);
    impairment + (95.0 - impairment) * lost_percent / (lost_percent + robustness)
}

/// Ie and Bpl (G.113, appendix I). What it does not list on the narrow-band scale counts as G.711
/// with concealment.
fn robustness(codec: &str) -> (f64, f64) {
    const LISTED: [(&str, f64, f64); 3] = [
        // As G.729A.
        ("G729", 11.0, 19.0),
        // At 6.3 kbit/s.
        ("G723", 15.0, 16.1),
        ("GSM-EFR", 5.0, 10.0),
    ];
    LISTED
        .iter()
        .find(|(name, ..)| name.eq_ignore_ascii_case(codec))
        .map_or((0.0, 25.1), |&(_, impairment, robustness)| {
            (impairment, robustness)
        })
}

fn opinion(rating: f64) -> f64 {
    // The cubic falls below 1 for ratings under 6.5.
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{equipment_impairment, estimate, opinion};

    fn close(value: f64, expected: f64, by: f64) {
        assert!((value - expected).abs() <= by, "{value} is not {expected}");
    }

    #[test]
    fn the_scale_is_that_of_g_107_annex_b() {
        for (rating, mos) in [
            (90.0, 4.34),
            (80.0, 4.03),
            (70.0, 3.60),
            (60.0, 3.10),
            (50.0, 2.58),
        ] {
            close(opinion(rating), mos, 0.01);
        }
        close(opinion(93.2), 4.41, 0.005);
        close(opinion(0.0), 1.0, 0.0);
        close(opinion(3.0), 1.0, 0.0);
    }

    #[test]
    fn two_percent_of_loss_cost_what_g_113_has_measured() {
        close(equipment_impairment("PCMU", 2.0), 7.0, 0.5);
        close(equipment_impairment("g729", 2.0), 19.0, 0.5);
        close(equipment_impairment("G723", 2.0), 24.0, 0.5);
    }

    #[test]
    fn a_clean_call_is_good_and_a_broken_one_bad() {
        let clean = estimate("PCMA", 1500, 0, 0.5).unwrap();
        assert!(clean.mos > 4.35, "{clean:?}");
        assert!(estimate("G729", 1500, 0, 0.5).unwrap().mos < clean.mos);
        assert!(estimate("PCMA", 1400, 100, 0.5).unwrap().mos < 4.0);
        assert!(estimate("PCMA", 1500, 0, 150.0).unwrap().mos < 4.0);
        close(estimate("PCMA", 0, 100, 0.0).unwrap().mos, 1.2, 0.2);
    }

    #[test]
    fn nothing_due_has_no_quality() {
        assert_eq!(estimate("PCMU", 0, 0, 0.0), None);
        assert_eq!(estimate("PCMU", u64::MAX, 1, 0.0), None);
    }

    proptest! {
        #[test]
        fn more_loss_or_jitter_is_never_better(
            received in 1_u64..10_000,
            lost in 0_u64..10_000,
            jitter in 0.0_f64..1000.0,
            codec in proptest::sample::select(vec!["PCMU", "G729", "opus"]),
        ) {
            let quality = estimate(codec, received, lost, jitter).unwrap();
            prop_assert!((1.0..=4.5).contains(&quality.mos));
            let more_lost = estimate(codec, received, lost + 1, jitter).unwrap();
            let more_jitter = estimate(codec, received, lost, jitter + 1.0).unwrap();
            prop_assert!(more_lost.rating <= quality.rating);
            prop_assert!(more_jitter.rating <= quality.rating);
        }

        #[test]
        fn any_number_is_rated(jitter in any::<f64>(), received in any::<u64>(), lost in any::<u64>()) {
            if let Some(quality) = estimate("PCMU", received, lost, jitter) {
                prop_assert!((1.0..=4.5).contains(&quality.mos));
            }
        }
    }
}
