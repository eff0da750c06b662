//! What a packet costs in the programs, by test run, and in SRTP by libsrtp.

use relay_user::measure::{Failure, costs};

use crate::{Plan, report::Report};

/// The programs on their fixtures, SRTP beside libsrtp in the same round, and what the verifier
/// followed.
pub fn cost(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    for _ in 0..if plan.quick { 2 } else { plan.rounds } {
        for cost in costs::relay()?.into_iter().chain(costs::srtp()?) {
            report.note(&cost.name, cost.unit, cost.value);
        }
    }
    for way in ["protect", "unprotect"] {
        for streams in ["", "_streams"] {
            report.ratio(
                &format!("xdp_{way}_vs_libsrtp{streams}"),
                &format!("xdp_{way}{streams}_ns"),
                &format!("libsrtp_{way}{streams}_ns"),
            );
        }
    }
    Ok(())
}
