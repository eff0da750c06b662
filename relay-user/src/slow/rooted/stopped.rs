//! A process that was stopped for three seconds and goes on, as one does that a hypervisor or a
//! debugger held.

use std::{
    env, fs,
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::lab::{Peer, config, hosts, in_time, start, start_with_xdp, whole_checksums};
use crate::{
    done::Done,
    media::SrtpSuite,
    process::{Process, ready_until_let_go},
    slow::{
        SlowEvents, WorkersConfig,
        tests::{CALLEE, CALLER, OURS_CALLER, at, caller_to_callee, key, rtp, word},
    },
};

/// Says to the process that it is the one with the worker, and whether that protects or gets its
/// packets by a ring.
const ROLE: &str = "TRUNKLINE_TEST_WORKER";
const TEST: &str =
    "slow::rooted::stopped::after_three_seconds_of_standstill_only_fresh_media_goes_on";

/// Packets each second: more than a socket holds come in while the worker stands still.
const RATE: u64 = 5_000;
/// And few enough for any machine.
const PROBES: u64 = 100;
const STANDSTILL: Duration = Duration::from_secs(3);
/// What is too old here: more than a busy machine keeps a worker from its packets, and far less than
/// the standstill.
const STALE: Duration = Duration::from_secs(1);
/// Packets that are too old when the standstill ends, and packets after it, at least.
const OLD: usize = 10_000;
const FRESH: usize = 5_000;
/// The most packets of a talk: a slow machine takes long to hear what is fresh.
const MOST: usize = 1 << 20;
/// How far the talk may be ahead of what is heard where every packet has to be.
const AHEAD: usize = 100;

#[test]
fn after_three_seconds_of_standstill_only_fresh_media_goes_on() {
    if let Ok(role) = env::var(ROLE) {
        return serve(&role);
    }
    thread::scope(|scope| {
        for role in ["plain", "protect", "rings"] {
            scope.spawn(move || stop_and_go_on(role));
        }
    });
}

/// The process with the worker: relays until its input ends.
fn serve(role: &str) {
    let events = SlowEvents::new(16);
    let mut flow = caller_to_callee();
    flow.protect = (role == "protect").then(|| key(SrtpSuite::AesCm128HmacSha1_80, 1));
    let config = WorkersConfig {
        stale: STALE,
        ..config(1)
    };
    let (workers, _attached) = match role {
        "rings" => {
            let (workers, steering, mut kernel) = start_with_xdp(&config, false, events);
            kernel.install(OURS_CALLER, &flow);
            (workers, (Some(steering), Some(kernel)))
        }
        _ => {
            let (workers, steering) = start(&config, true, events);
            (workers, (steering, None))
        }
    };
    workers.install(at(OURS_CALLER), flow).expect("installed");
    ready_until_let_go();
}

fn stop_and_go_on(role: &str) {
    let [caller, ours, callee] = hosts();
    whole_checksums(&[&caller]);
    let process = Process::start(&ours, TEST, ROLE, role);
    let (caller, callee) = (Peer::new(&caller, CALLER), Peer::new(&callee, CALLEE));
    roomy(&callee);
    let done = AtomicBool::new(false);
    let heard = Heard::new();
    thread::scope(|scope| {
        let _end = Done(&done);
        scope.spawn(|| listen(&callee, &heard, &done));
        let mut talk = Talk {
            caller,
            sent: Vec::new(),
        };
        talk.on_for(Duration::from_secs(1));
        let before = resident(&process);

        process.signal("STOP");
        talk.until(RATE, |_| process.stands_still());
        let stopped = talk.sent.len();
        talk.on_for(STANDSTILL);
        talk.until(RATE, |sent| {
            sent.get(stopped + OLD)
                .is_some_and(|at| at.elapsed() > STALE)
        });
        let resumed = Instant::now();
        process.signal("CONT");
        let settled = talk.sent.len();
        talk.until(RATE, |_| heard.highest() >= settled);
        // A machine that does not keep up with that rate still has packets waiting.
        talk.until(PROBES, |sent| heard.highest() + 1 == sent.len());

        // From here on every packet is heard, at whatever pace this machine has for it.
        let fresh = talk.sent.len();
        for number in fresh..fresh + FRESH {
            talk.say();
            assert!(
                in_time(|| heard.highest() + AHEAD > number),
                "{role}: nothing is heard any more"
            );
        }
        let fresh = fresh..talk.sent.len();
        assert!(
            in_time(|| heard.highest() + 1 == fresh.end),
            "{role}: the last packets are not heard"
        );
        let lost = fresh.filter(|number| !heard.contains(*number)).count();
        assert!(lost * 1000 < FRESH, "{role}: {lost} of {FRESH} were lost");
        let after = resident(&process);
        assert!(
            after * 100 <= before * 105,
            "{role}: {after} pages are resident, {before} were"
        );

        // What was said during the standstill and was too old when it ended is heard by nobody.
        let stale = talk
            .sent
            .iter()
            .skip(stopped)
            .take_while(|sent| **sent + STALE < resumed);
        let stale = stopped..stopped + stale.count();
        assert!(stale.len() > OLD, "{role}: {} stale packets", stale.len());
        let late = stale.filter(|number| heard.contains(*number)).count();
        assert_eq!(late, 0, "{role}: stale packets were sent on");
    });
}

/// The caller, who says packets, each with its number.
struct Talk {
    caller: Peer,
    /// When each had been sent: no earlier than the kernel stamped it.
    sent: Vec<Instant>,
}

impl Talk {
    fn say(&mut self) {
        let number = self.sent.len();
        assert!(
            number < MOST,
            "this machine is too slow to hear what is fresh"
        );
        let packet = rtp(0, number as u16, 160 * number as u32, 7);
        self.caller.send(OURS_CALLER, &packet);
        self.sent.push(Instant::now());
    }

    /// Talks at an even pace, so many packets each second.
    fn until(&mut self, rate: u64, mut over: impl FnMut(&[Instant]) -> bool) {
        let (begin, first) = (Instant::now(), self.sent.len() as u64);
        while !over(&self.sent) {
            let due = first + begin.elapsed().as_micros() as u64 * rate / 1_000_000;
            while (self.sent.len() as u64) < due {
                self.say();
            }
            // Until the next is due, the processor is the worker's.
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn on_for(&mut self, time: Duration) {
        let begin = Instant::now();
        self.until(RATE, |_| begin.elapsed() >= time);
    }
}

/// The numbers of the packets that came.
struct Heard {
    each: Vec<AtomicBool>,
    highest: AtomicUsize,
}

impl Heard {
    fn new() -> Self {
        Self {
            each: (0..MOST).map(|_| AtomicBool::new(false)).collect(),
            highest: AtomicUsize::new(0),
        }
    }

    fn contains(&self, number: usize) -> bool {
        self.each[number].load(Ordering::Acquire)
    }

    fn highest(&self) -> usize {
        self.highest.load(Ordering::Acquire)
    }

    fn take(&self, number: usize) {
        self.each[number].store(true, Ordering::Release);
        self.highest.fetch_max(number, Ordering::AcqRel);
    }
}

/// Hears until the test is over.
fn listen(callee: &Peer, heard: &Heard, done: &AtomicBool) {
    let mut buffer = [0; 2048];
    let moment = Some(Duration::from_millis(50));
    callee.0.set_read_timeout(moment).expect("set");
    while !done.load(Ordering::Acquire) {
        if callee.0.recv_from(&mut buffer).is_ok() {
            let timestamp = word(&buffer, 4).wrapping_sub(1_000);
            heard.take((timestamp / 160) as usize);
        }
    }
}

/// Pages of a process's memory.
fn resident(process: &Process) -> u64 {
    let status = fs::read_to_string(process.told("statm")).expect("it lives");
    let pages = status.split_whitespace().nth(1).expect("a number");
    pages.parse().expect("a number")
}

/// Gives the callee room for what comes while it does not run.
fn roomy(callee: &Peer) {
    let octets: libc::c_int = 64 << 20;
    // SAFETY: `octets` is an integer of the length that is passed, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            callee.0.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            std::ptr::from_ref(&octets).cast(),
            size_of_val(&octets) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
