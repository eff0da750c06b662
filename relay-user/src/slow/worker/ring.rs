//! What the kernel program hands over by the worker's ring: each frame's datagram is copied into a
//! buffer and goes on as if a socket had received it.

use io_uring::Submitter;

use super::{Clock, Queues, State};
use crate::slow::{
    Discard,
    buffers::FILLED,
    datagram::PAYLOAD,
    mailbox::add,
    punted::{self, Punted},
    relaying::Received,
};

/// The most records of one turn: commands and completions are not to wait longer.
const RECORDS: usize = 512;

impl State {
    /// Relays what is in the ring, as far as there are buffers. Whether records may be left, of
    /// which nobody will tell.
    pub(super) fn handed_over(&mut self, clock: Clock, queues: &mut Queues<'_>) -> bool {
        let Some(mut ring) = self.start.ring.take() else {
            return false;
        };
        let mut left = true;
        let mut taken = 0;
        while taken < RECORDS {
            let Some(id) = self.buffers.take() else {
                break;
            };
            let Some(record) = ring.next() else {
                self.buffers.give_back(id);
                left = false;
                break;
            };
            taken += 1;
            // What was told before the packet came holds for it.
            self.commands(queues);
            if let Err((discard, octets)) = self.take_over(id, &record, clock, &queues.submitter) {
                self.discard(discard, octets);
                self.buffers.give_back(id);
            }
        }
        self.start.ring = Some(ring);
        add(&self.start.mailbox.counters.handed_over, taken as u64);
        left
    }

    /// Relays the datagram in a record and queues its send, from buffer `id`.
    fn take_over(
        &mut self,
        id: u16,
        record: &[u8],
        clock: Clock,
        submitter: &Submitter<'_>,
    ) -> Result<(), (Discard, usize)> {
        let Punted {
            arrived,
            source,
            local,
            hop,
            payload,
        } = punted::parse(record).map_err(|discard| (discard, record.len()))?;
        let octets = payload.len();
        let refused = |discard| (discard, octets);
        if clock.monotonic.saturating_sub(arrived) > self.start.stale {
            return Err(refused(Discard::Stale));
        }
        self.buffers
            .get(id)
            .get_mut(PAYLOAD..FILLED)
            .and_then(|room| room.get_mut(..octets))
            .ok_or(refused(Discard::TooLarge))?
            .copy_from_slice(payload);
        let received = Received {
            source,
            local,
            hop,
            now: arrived,
        };
        self.relay(id, &received, octets, submitter)
            .map_err(refused)
    }
}
