//! The alarm on refused SRTP: how a wrong key looks, and an attack.

use std::time::Duration;

use super::{Shared, flow::Flow, plane::Call, rows::FlowRows, snapshot::each_call};
use crate::slow::{SlowCounters, socket_address};

/// How often streams are looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// How many packets of a stream have to be refused between two looks for an alarm: ten a second,
/// of the fifty that a telephone with a wrong key sends.
const THRESHOLD: u64 = 50;

/// How many alarms are told of at one look.
const LINES: usize = 8;

/// What was seen of a stream at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    refused: u64,
    raised: bool,
}

impl Watch {
    /// Takes in how many packets of the stream were refused until now. How many since the last
    /// look, if that raises an alarm which there was not.
    fn look(&mut self, refused: u64) -> Option<u64> {
        let since = refused.saturating_sub(self.refused);
        let raised = since >= THRESHOLD;
        let new = raised && !self.raised;
        *self = Self { refused, raised };
        new.then_some(since)
    }

    pub(super) fn is_raised(self) -> bool {
        self.raised
    }
}

/// Looks at every stream of SRTP.
pub(super) fn look(shared: &Shared) {
    let mut raised = 0;
    each_call(shared, |shared, id, call| {
        let Call { media, flows, rows } = call;
        for ((flow, rows), leg) in flows.iter_mut().zip(rows).zip(&media.legs) {
            if leg.srtp.is_none() {
                continue;
            }
            let worker = shared.slow.read(&flow.key).unwrap_or_default();
            let refused = refused(flow, rows, &worker);
            let Some(since) = flow.watch.look(refused) else {
                continue;
            };
            raised += 1;
            if raised <= LINES {
                tracing::warn!(
                    call = id.0,
                    local = %socket_address(&flow.key.local),
                    peer = ?worker.peer.or(leg.remote.map(|remote| remote.rtp)),
                    refused = since,
                    seconds = INTERVAL.as_secs(),
                    "SRTP of a stream is refused: its sender has another key, or somebody else sends"
                );
            }
        }
    });
    if raised > LINES {
        tracing::warn!(streams = raised - LINES, "SRTP of more streams is refused");
    }
}

/// How many packets of a stream both paths have refused.
pub(super) fn refused(flow: &Flow, rows: &FlowRows, worker: &SlowCounters) -> u64 {
    worker.srtp_failures + flow.refused_before + rows.refused()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_told_once_and_ends_when_the_refusals_do() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(THRESHOLD - 1), None);
        assert!(!watch.is_raised());
        assert_eq!(watch.look(2 * THRESHOLD - 1), Some(THRESHOLD));
        assert_eq!(watch.look(4 * THRESHOLD), None);
        assert!(watch.is_raised());
        assert_eq!(watch.look(4 * THRESHOLD + 1), None);
        assert!(!watch.is_raised());
        assert_eq!(watch.look(5 * THRESHOLD + 1), Some(THRESHOLD));
    }
}
