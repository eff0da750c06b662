//! A worker's thread: the io_uring loop around a [`Table`].
//!
//! One turn takes every completion that is there, relays each packet in the buffer that it came in,
//! queues its send, and enters the kernel once: to send all of it, and to wait for more. Nothing is
//! allocated for a packet, and nothing that a packet needs can run out but buffers; then receiving
//! pauses until the sends under way have completed, and goes on.

mod orders;
mod ring;

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{Arc, atomic::Ordering, mpsc::SyncSender},
};

use io_uring::{
    CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue,
    types::{Fd, Fixed},
};
use relay_abi::flow::Address;

use super::{
    Discard, LastOutput, SlowError, SlowEvents,
    buffers::{ALL, Buffers, GROUP},
    datagram::{self, CONTROL, NAME, PAYLOAD},
    departures::{Departures, INTERFACES},
    mailbox::{Mailbox, add},
    ports::Ports,
    relaying::{Content, Received, Surroundings},
    sockets::SocketAddress,
    table::Table,
    ways::Question,
};
use crate::{clock::nanoseconds, offload::WorkerRing};

/// Room for a turn's sends; when it is full the kernel is entered in between.
const SUBMISSIONS: u32 = 512;
/// More completions than there can be: every buffer received into, every one sent from, and the
/// rest.
const COMPLETIONS: u32 = 4096;

/// What a completion is of: the high half of its user data.
const RECEIVE: u64 = 1 << 32;
const PORT: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const WAKE: u64 = 4 << 32;
const CANCEL: u64 = 5 << 32;
const RING: u64 = 6 << 32;
const OFFER: u64 = 7 << 32;

/// What a worker's thread is started with.
pub(super) struct Start {
    pub mailbox: Arc<Mailbox>,
    pub events: SlowEvents,
    pub last_output: Option<Arc<dyn LastOutput>>,
    /// The steered sockets; none where every port has its own.
    pub receivers: Vec<OwnedFd>,
    /// Raw sockets, and the local address that each is bound to; `0.0.0.0` and `::` are for those
    /// that have none.
    pub senders: Vec<(Address, OwnedFd)>,
    /// By what the kernel program hands packets over, where it does.
    pub ring: Option<WorkerRing>,
    /// Where to ask for next hops; without them every packet leaves through a raw socket.
    pub questions: Option<SyncSender<Question>>,
    /// A packet that waited longer is not sent on, in nanoseconds.
    pub stale: u64,
}

impl Start {
    /// The place of the first packet socket among the registered ones.
    fn frames(&self) -> u32 {
        (self.receivers.len() + self.senders.len()) as u32
    }

    /// The raw socket for packets from an address.
    fn sender(&self, from: &Address) -> Option<usize> {
        let own = |(address, _): &(Address, OwnedFd)| address == from;
        self.senders
            .iter()
            .position(own)
            .or_else(|| self.any_sender(from))
    }

    fn any_sender(&self, from: &Address) -> Option<usize> {
        let any = match from.as_v4() {
            Some(_) => Address::v4([0; 4]),
            None => Address::UNSPECIFIED,
        };
        self.senders.iter().position(|(address, _)| *address == any)
    }
}

/// One packet being sent, by the buffer that it is in. The kernel reads the address, which a frame
/// does not need, until the send completes.
#[derive(Clone, Copy)]
struct Sending {
    to: SocketAddress,
    to_length: libc::socklen_t,
    /// The registered socket to send by.
    socket: u32,
    /// Where the IP packet or the frame is in its buffer.
    start: usize,
    length: u32,
    /// Octets of UDP payload that came in.
    octets: u32,
    /// When it came in, in nanoseconds of the monotonic clock.
    arrived: u64,
    content: Content,
}

const _: () = assert!(size_of::<Sending>() == 64);

/// A worker, ready to run.
pub(super) struct Worker {
    // Dropped first: then the kernel has let go of what the state's boxes and mappings hold.
    ring: IoUring,
    state: State,
}

/// All of a worker but its io_uring.
struct State {
    buffers: Buffers,
    sending: Box<[Sending]>,
    /// The buffers whose packets are to be sent when the kernel is entered next.
    outgoing: Vec<u16>,
    /// What every receive is asked for: a source address and control messages.
    template: Box<libc::msghdr>,
    /// What the wake-up writes; never read.
    woken: Box<u64>,
    table: Table,
    ports: Ports,
    departures: Departures,
    start: Start,
    overflows: Vec<u32>,
    /// Receives that ended and have to be asked for again.
    rearm: Vec<u64>,
    /// Records are left in the ring.
    left: bool,
}

/// The queues of one turn.
struct Queues<'a> {
    submitter: Submitter<'a>,
    submissions: SubmissionQueue<'a>,
    completions: CompletionQueue<'a>,
}

impl Worker {
    /// Makes the io_uring; to be called on the thread that runs the worker, which the kernel takes
    /// for its only user.
    pub(super) fn new(start: Start) -> Result<Self, SlowError> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(refused)?;
        let failed = |call| move |error| SlowError::Socket { call, error };
        let buffers = Buffers::new(&ring.submitter()).map_err(failed("mmap"))?;
        let files: Vec<RawFd> = start
            .receivers
            .iter()
            .map(AsRawFd::as_raw_fd)
            .chain(start.senders.iter().map(|(_, socket)| socket.as_raw_fd()))
            .chain([-1; INTERFACES])
            .collect();
        ring.submitter()
            .register_files(&files)
            .map_err(failed("io_uring_register_files"))?;
        // SAFETY: a msghdr is integers and pointers, for which all zeros are valid.
        let mut template: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        template.msg_namelen = NAME as u32;
        template.msg_controllen = CONTROL;
        let (to, to_length) = SocketAddress::NONE;
        let sending = Sending {
            to,
            to_length,
            socket: 0,
            start: 0,
            length: 0,
            octets: 0,
            arrived: 0,
            content: Content::Rtp,
        };
        let mut rearm: Vec<u64> = (0..start.receivers.len() as u64)
            .map(|index| RECEIVE | index)
            .collect();
        rearm.push(WAKE);
        if start.ring.is_some() {
            rearm.push(RING);
        }
        let state = State {
            buffers,
            sending: vec![sending; usize::from(ALL)].into_boxed_slice(),
            outgoing: Vec::with_capacity(usize::from(ALL)),
            template,
            woken: Box::new(0),
            table: Table::default(),
            ports: Ports::default(),
            departures: Departures::new(start.questions.clone()),
            overflows: vec![0; start.receivers.len()],
            start,
            rearm,
            left: false,
        };
        Ok(Self { ring, state })
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        while !self.state.start.mailbox.stop.load(Ordering::Acquire) {
            if let Err(error) = self.turn() {
                // Nothing that a packet or a peer does leads here.
                tracing::error!(%error, "a media worker cannot enter io_uring and ends");
                return;
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let Self { ring, state } = self;
        let (submitter, submissions, completions) = ring.split();
        let mut queues = Queues {
            submitter,
            submissions,
            completions,
        };
        let frames = state.start.frames();
        state.departures.tidy(&queues.submitter, frames);
        // First what may give buffers back, then what needs them: nothing else would wake a worker
        // all of whose packets became too old.
        state.send(&mut queues);
        state.offer(&mut queues);
        state.arm(&mut queues);
        if state.left {
            // The ring tells of what is new alone: do not wait for it.
            state.push(&mut queues, &opcode::Nop::new().build().user_data(CANCEL));
        }
        queues.submissions.sync();
        match queues.submitter.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                // Interrupted, or the completions have to be taken first.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            },
        }
        queues.submissions.sync();
        queues.completions.sync();
        // What was told before a packet came holds for it.
        state.commands(&mut queues);
        let clock = Clock {
            monotonic: nanoseconds(libc::CLOCK_MONOTONIC),
            wall: nanoseconds(libc::CLOCK_REALTIME),
        };
        for completion in queues.completions.by_ref() {
            state.complete(&completion, clock, &queues.submitter);
        }
        state.left = state.handed_over(clock, &mut queues);
        state.buffers.publish();
        Ok(())
    }
}

impl State {
    /// Offers the kernel what was given back, where that takes submissions.
    fn offer(&mut self, queues: &mut Queues<'_>) {
        while let Some((id, entry)) = self.buffers.submission() {
            if !self.push(queues, &entry.user_data(OFFER | u64::from(id))) {
                self.buffers.not_offered(id);
                return;
            }
        }
    }

    /// Asks again for the receives that ended, as far as there are buffers for them.
    fn arm(&mut self, queues: &mut Queues<'_>) {
        let mut index = 0;
        while let Some(waiting) = self.rearm.get(index).copied() {
            let kind = waiting & !0xffff_ffff;
            let number = waiting as u32;
            let entry = match kind {
                WAKE => Some(
                    opcode::Read::new(
                        Fd(self.start.mailbox.wake.as_raw_fd()),
                        std::ptr::from_mut(&mut *self.woken).cast(),
                        8,
                    )
                    .build(),
                ),
                RING => self.start.ring.as_ref().map(|ring| {
                    opcode::PollAdd::new(Fd(ring.as_raw_fd()), libc::POLLIN as u32)
                        .multi(true)
                        .build()
                }),
                _ if !self.buffers.any_offered() => None,
                RECEIVE => {
                    Some(opcode::RecvMsgMulti::new(Fixed(number), &*self.template, GROUP).build())
                }
                _ => match self.ports.descriptor(number) {
                    Some(socket) => {
                        Some(opcode::RecvMsgMulti::new(Fd(socket), &*self.template, GROUP).build())
                    }
                    None => {
                        self.rearm.swap_remove(index);
                        continue;
                    }
                },
            };
            let armed = entry.is_some_and(|entry| self.push(queues, &entry.user_data(waiting)));
            if armed {
                self.rearm.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Queues a submission, entering the kernel if there is no room; false if there is none still.
    fn push(&mut self, queues: &mut Queues<'_>, entry: &squeue::Entry) -> bool {
        if queues.submissions.is_full() {
            queues.submissions.sync();
            // Whatever it says, the room that there is then decides.
            let _ = queues.submitter.submit();
            queues.submissions.sync();
        }
        // SAFETY: what the entry points to lives in boxes and mappings of `self`, which are dropped
        // after the io_uring, and is not changed until the entry's completion.
        unsafe { queues.submissions.push(entry) }.is_ok()
    }

    fn complete(&mut self, completion: &cqueue::Entry, clock: Clock, submitter: &Submitter<'_>) {
        let data = completion.user_data();
        let number = data as u32;
        match data & !0xffff_ffff {
            SEND => self.sent(number as u16, completion.result()),
            kind @ (RECEIVE | PORT) => {
                if let Some(id) = cqueue::buffer_select(completion.flags()) {
                    self.buffers.taken();
                    let length = usize::try_from(completion.result()).unwrap_or(0);
                    let from = (kind, number);
                    if let Err((discard, octets)) =
                        self.received(from, id, length, clock, submitter)
                    {
                        self.discard(discard, octets);
                        self.buffers.give_back(id);
                    }
                }
                if !cqueue::more(completion.flags()) {
                    // Out of buffers, cancelled, or ended by the kernel for a reason of its own.
                    let closed = kind == PORT && self.ports.ended(number);
                    match -completion.result() {
                        _ if closed => {}
                        error @ (libc::EINVAL | libc::EOPNOTSUPP) => {
                            let error = io::Error::from_raw_os_error(error);
                            tracing::error!(%error, "this kernel cannot receive for a media worker");
                        }
                        _ => self.rearm.push(data),
                    }
                }
            }
            OFFER if completion.result() < 0 => self.buffers.not_offered(number as u16),
            WAKE => self.rearm.push(WAKE),
            RING if !cqueue::more(completion.flags()) => self.rearm.push(RING),
            _ => {}
        }
    }

    /// Relays the packet in buffer `id` and queues its send.
    fn received(
        &mut self,
        (kind, number): (u64, u32),
        id: u16,
        length: usize,
        clock: Clock,
        submitter: &Submitter<'_>,
    ) -> Result<(), (Discard, usize)> {
        let buffer = self.buffers.get(id);
        let Some(datagram) = datagram::parse(buffer, length) else {
            return Err((Discard::UnknownFlow, length.saturating_sub(PAYLOAD)));
        };
        if let Some(total) = datagram.overflows {
            let new = match self.overflows.get_mut(number as usize) {
                Some(last) if kind == RECEIVE => {
                    let new = total.wrapping_sub(*last);
                    *last = total;
                    new
                }
                _ => self.ports.overflows(number, total),
            };
            add(&self.start.mailbox.counters.overflows, u64::from(new));
        }
        let octets = datagram.payload_length;
        if datagram.truncated {
            return Err((Discard::TooLarge, octets));
        }
        let waited = datagram
            .arrived
            .map_or(0, |arrived| clock.wall.saturating_sub(arrived));
        if waited > self.start.stale {
            return Err((Discard::Stale, octets));
        }
        let received = Received {
            source: datagram.source,
            local: datagram.local,
            hop: datagram.hop(),
            now: clock.monotonic.saturating_sub(waited),
        };
        self.relay(id, &received, octets, submitter)
            .map_err(|discard| (discard, octets))
    }

    /// Relays the datagram in buffer `id` and queues its send.
    fn relay(
        &mut self,
        id: u16,
        received: &Received,
        octets: usize,
        submitter: &Submitter<'_>,
    ) -> Result<(), Discard> {
        let buffer = self.buffers.get(id);
        let around = Surroundings {
            events: &self.start.events,
            kernel: self.start.last_output.as_deref(),
        };
        let departure = self
            .table
            .relay(received, buffer, PAYLOAD..PAYLOAD + octets, around)?;

        let packet = departure.packet;
        let first = self.start.frames();
        let exit = self.departures.exit(
            &departure.from,
            &departure.to,
            packet.len(),
            |place, socket| {
                let files = [socket.as_raw_fd()];
                submitter
                    .register_files_update(first + place, &files)
                    .is_ok()
            },
        );
        let frame = exit.and_then(|exit| {
            let begin = exit.header.write(buffer, packet.start)?;
            Some((begin, first + exit.place))
        });
        let (start, socket, (to, to_length)) = match frame {
            Some((begin, socket)) => (begin, socket, SocketAddress::NONE),
            None => {
                let sender = self.start.sender(&departure.from);
                let sender = sender.ok_or(Discard::SendFailed)?;
                let socket = (self.start.receivers.len() + sender) as u32;
                let to = SocketAddress::new(&departure.to, 0);
                (packet.start, socket, to)
            }
        };
        let sending = self
            .sending
            .get_mut(usize::from(id % ALL))
            .ok_or(Discard::NoSendSlot)?;
        *sending = Sending {
            to,
            to_length,
            socket,
            start,
            length: (packet.end - start) as u32,
            octets: octets as u32,
            arrived: received.now,
            content: departure.content,
        };
        // There is an entry for each buffer, so it never grows.
        self.outgoing.push(id);
        Ok(())
    }

    /// Queues the sends of this turn. A worker that was stopped since it received them sends none
    /// that has become too old.
    fn send(&mut self, queues: &mut Queues<'_>) {
        if self.outgoing.is_empty() {
            return;
        }
        let now = nanoseconds(libc::CLOCK_MONOTONIC);
        let mut outgoing = std::mem::take(&mut self.outgoing);
        for id in outgoing.drain(..) {
            let Some(sending) = self.sending.get(usize::from(id % ALL)) else {
                continue;
            };
            let octets = sending.octets as usize;
            let discard = if now.saturating_sub(sending.arrived) > self.start.stale {
                Some(Discard::Stale)
            } else {
                let packet = self.buffers.get(id).get(sending.start..);
                let packet = packet.unwrap_or_default().as_ptr();
                let mut entry = opcode::Send::new(Fixed(sending.socket), packet, sending.length)
                    .flags(libc::MSG_DONTWAIT);
                if sending.to_length > 0 {
                    entry = entry
                        .dest_addr(sending.to.as_pointer())
                        .dest_addr_len(sending.to_length);
                }
                let entry = entry.build().user_data(SEND | u64::from(id));
                (!self.push(queues, &entry)).then_some(Discard::NoSendSlot)
            };
            if let Some(discard) = discard {
                self.discard(discard, octets);
                self.buffers.give_back(id);
            }
        }
        self.outgoing = outgoing;
        self.buffers.publish();
    }

    /// A send has completed: its buffer is free.
    fn sent(&mut self, id: u16, result: i32) {
        if let Some(sending) = self.sending.get(usize::from(id % ALL)).copied() {
            let octets = sending.octets as usize;
            let counters = &self.start.mailbox.counters;
            if result >= 0 && sending.to_length == 0 {
                add(&counters.frames, 1);
            }
            match result {
                0.. => match sending.content {
                    Content::Rtp => counters.rtp.count(octets),
                    Content::Rtcp => counters.rtcp.count(octets),
                    Content::Stun => counters.stun.count(octets),
                    Content::StunRefusal => self.discard(Discard::StunRefused, octets),
                },
                _ if -result == libc::EMSGSIZE => self.discard(Discard::TooLarge, octets),
                _ if -result == libc::EAGAIN || -result == libc::ENOBUFS => {
                    self.discard(Discard::NoSendSlot, octets);
                }
                _ => self.discard(Discard::SendFailed, octets),
            }
        }
        self.buffers.give_back(id);
    }

    fn discard(&self, discard: Discard, octets: usize) {
        self.start.mailbox.counters.discarded.count(discard, octets);
    }
}

/// One turn's time, in nanoseconds.
#[derive(Clone, Copy)]
struct Clock {
    monotonic: u64,
    wall: u64,
}

fn refused(error: io::Error) -> SlowError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => SlowError::IoUringRefused(error),
        Some(libc::EINVAL) => SlowError::IoUringTooOld(error),
        _ => SlowError::Socket {
            call: "io_uring_setup",
            error,
        },
    }
}
