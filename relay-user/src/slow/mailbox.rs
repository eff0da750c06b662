//! How workers are told what to do, and what they share with whoever asks about them.

use std::{
    os::fd::OwnedFd,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::SyncSender,
    },
};

use crossbeam_queue::ArrayQueue;
use relay_abi::{counters::ReasonCounters, flow::FlowKey};

use super::{SlowError, discard::DiscardCounters, served::Prepared, sockets};

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve a flow; without steering on these sockets, for RTP and RTCP, unless it has some.
    Install {
        prepared: Box<Prepared>,
        ports: Option<[OwnedFd; 2]>,
    },
    /// Serve it no more. The sender is dropped when its sockets are closed.
    Remove {
        key: FlowKey,
        done: Option<SyncSender<()>>,
    },
}

/// Room for commands that a worker has not read yet.
const COMMANDS: usize = 1024;

/// A worker's side that others see.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub commands: ArrayQueue<Command>,
    pub wake: OwnedFd,
    pub stop: AtomicBool,
    pub counters: WorkerCounters,
}

impl Mailbox {
    pub(super) fn new() -> Result<Self, SlowError> {
        Ok(Self {
            commands: ArrayQueue::new(COMMANDS),
            wake: sockets::wake()?,
            stop: AtomicBool::new(false),
            counters: WorkerCounters {
                discarded: DiscardCounters::new(),
                rtp: Sum::default(),
                rtcp: Sum::default(),
                stun: Sum::default(),
                frames: AtomicU64::new(0),
                overflows: AtomicU64::new(0),
                handed_over: AtomicU64::new(0),
            },
        })
    }
}

/// Counts of one worker, written by it alone.
#[derive(Debug)]
pub(super) struct WorkerCounters {
    pub discarded: DiscardCounters,
    pub rtp: Sum,
    pub rtcp: Sum,
    /// Checks that were answered.
    pub stun: Sum,
    /// How many of all left as frames.
    pub frames: AtomicU64,
    /// What the kernel dropped because a socket was full.
    pub overflows: AtomicU64,
    /// What the kernel program handed over.
    pub handed_over: AtomicU64,
}

/// Packets and octets.
#[derive(Debug, Default)]
pub(super) struct Sum {
    packets: AtomicU64,
    octets: AtomicU64,
}

impl Sum {
    pub(super) fn count(&self, octets: usize) {
        add(&self.packets, 1);
        add(&self.octets, octets as u64);
    }

    pub(super) fn read(&self) -> ReasonCounters {
        ReasonCounters {
            packets: self.packets.load(Ordering::Relaxed),
            octets: self.octets.load(Ordering::Relaxed),
        }
    }
}

/// Adds to a counter that only the caller's thread writes.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(sum, Ordering::Relaxed);
}
