//! The thread that hears what workers and the kernel tell.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use relay_abi::verdict::Reason;

use super::{Shared, alarm, strays};
use crate::slow::{SlowEvent, socket_address};

/// How long to wait for an event before looking after the rest.
const PAUSE: Duration = Duration::from_millis(250);

/// How many events are taken before looking after the rest all the same.
const AT_ONCE: usize = 1024;

/// Runs until `stop` is set.
pub(super) fn run(shared: &Arc<Shared>, stop: &AtomicBool) {
    let mut looked = Instant::now();
    while !stop.load(Ordering::Acquire) {
        if looked.elapsed() >= alarm::INTERVAL {
            looked = Instant::now();
            alarm::look(shared);
            strays::look(shared);
        }
        let mut wait = PAUSE;
        for _ in 0..AT_ONCE {
            let Some(event) = shared.events.next(wait) else {
                break;
            };
            wait = Duration::ZERO;
            handle(shared, &event);
        }
        shared.plane().sweep(shared.slow.as_ref());
        let drops = shared.tables.with(|datapath| datapath.events());
        for first in drops.unwrap_or_default() {
            let reason = Reason::ALL.get(usize::from(first.reason.get()));
            tracing::info!(
                local = %socket_address(&first.key.local),
                source = %socket_address(&first.source),
                reason = reason.map_or("unknown", |reason| reason.name()),
                "a flow dropped its first packet"
            );
        }
    }
}

fn handle(shared: &Shared, event: &SlowEvent) {
    match event {
        SlowEvent::Source { key, entry } => {
            shared.with_plane(|plane, parts| plane.learned(parts, key, entry));
        }
        SlowEvent::Peer { key, entry } => {
            shared.with_plane(|plane, parts| plane.nominated(parts, key, entry));
        }
        // Where RTCP comes from is the workers' own affair: the kernel relays none.
        SlowEvent::Rtcp { .. } => {}
    }
}
