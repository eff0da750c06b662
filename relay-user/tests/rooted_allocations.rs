//! A worker allocates nothing for a packet: a global allocator counts what its thread asks for.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    net::{SocketAddr, UdpSocket},
    process::Command,
    sync::atomic::{AtomicI32, AtomicU64, Ordering},
    time::Duration,
};

use relay_abi::flow::{FlowEntry, PayloadTypePair};
use relay_user::{
    media::{IceCredentials, IceMedia, SrtpKey, SrtpSuite},
    slow::{RtcpRoute, SlowEvents, SlowFlow, Sources, Workers, WorkersConfig, endpoint, flow_key},
    stun::{Attribute, BINDING, Builder, Class},
};

const PASSWORD: &str = "0123456789abcdefghijklmn";

static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    let thread = match THREAD.get() {
        0 => {
            // SAFETY: has no argument and no effect.
            let thread = unsafe { libc::gettid() };
            THREAD.set(thread);
            thread
        }
        thread => thread,
    };
    if thread == WATCHED.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator does all of it; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn flow(from: &str, to: &str, unprotect: bool, protect: bool) -> SlowFlow {
    let key = || SrtpKey {
        suite: SrtpSuite::AesCm128HmacSha1_80,
        master: vec![7; 30].into(),
        mki: None,
    };
    SlowFlow {
        entry: FlowEntry {
            from: endpoint(address(from)),
            to: endpoint(address(to)),
            ssrc_out: 99.into(),
            clock_rate: 8000.into(),
            payload_type_count: 1,
            payload_types: [PayloadTypePair::default(); 8],
            ..FlowEntry::default()
        },
        payload_types: Vec::new(),
        sources: Sources::default(),
        unprotect: unprotect.then(key),
        protect: protect.then(key),
        unprotect_row: None,
        protect_row: None,
        rtcp: RtcpRoute::default(),
        opposite: None,
        ice: None,
    }
}

fn ice() -> IceMedia {
    IceMedia {
        own: IceCredentials {
            fragment: "ours".into(),
            password: PASSWORD.to_owned().into(),
        },
        before: None,
        fragment: "theirs".into(),
        chosen: None,
        known: None,
    }
}

fn check() -> Vec<u8> {
    let mut buffer = vec![0; 128];
    let mut builder = Builder::new(&mut buffer, BINDING, Class::Request, &[3; 12]);
    builder.attribute(Attribute::USERNAME, b"ours:theirs");
    builder.attribute(Attribute::USE_CANDIDATE, &[]);
    builder.integrity(PASSWORD.as_bytes());
    builder.fingerprint();
    let length = builder.finish().expect("room");
    buffer.truncate(length);
    buffer
}

fn worker_thread() -> i32 {
    fs::read_dir("/proc/self/task")
        .expect("tasks")
        .filter_map(Result::ok)
        .find(|task| {
            fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|name| name.starts_with("media-"))
        })
        .and_then(|task| task.file_name().to_str()?.parse().ok())
        .expect("a worker's thread")
}

mod rooted {
    use super::*;

    /// The packets go through two flows in a row: protected by the first, unprotected by the
    /// second.
    #[test]
    fn a_worker_allocates_nothing_for_a_packet() {
        // SAFETY: changes this thread's own network namespace and nothing else.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(unshared, 0, "root is needed");
        let status = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(status.expect("ip").success());

        let patience = Duration::from_secs(30);
        let workers = Workers::start(
            WorkersConfig {
                workers: 1,
                addresses: vec![[127, 0, 0, 1].into()],
                flows: 10,
                last_output: None,
                busy_poll: false,
                // However long the machine keeps the worker from it.
                stale: patience,
            },
            None,
            Vec::new(),
            SlowEvents::new(16),
        )
        .expect("workers");
        let (first, second, third) = ("127.0.0.1:20000", "127.0.0.1:20002", "127.0.0.1:20004");
        let there = "127.0.0.3:4000";
        let install = |at: &str, flow: SlowFlow| {
            let installed = workers.install(flow_key(address(at)), flow);
            installed.expect("installed");
        };
        install(first, flow(second, third, false, true));
        install(third, flow(second, there, true, false));

        let here = UdpSocket::bind("127.0.0.2:3000").expect("a port");
        let heard = UdpSocket::bind(there).expect("a port");
        heard.set_read_timeout(Some(patience)).expect("set");
        let answering = "127.0.0.1:20008";
        let mut with_ice = flow(second, there, false, false);
        with_ice.ice = Some(ice());
        install(answering, with_ice);
        let check = check();
        let answers = || {
            here.send_to(&check, answering).expect("sent");
            let mut answer = [0u8; 256];
            let (length, _) = here.recv_from(&mut answer).expect("an answer comes");
            assert_eq!((length, &answer[..2]), (64, &[1, 1][..]));
        };
        here.set_read_timeout(Some(patience)).expect("set");
        answers();
        let mut packet = [0u8; 172];
        packet[0] = 0x80;
        let mut buffer = [0u8; 2048];
        let mut through = |sequence: u16| {
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            here.send_to(&packet, first).expect("sent");
            let (length, _) = heard.recv_from(&mut buffer).expect("a packet comes");
            assert_eq!((length, &buffer[12..length]), (172, &packet[12..]));
        };
        for sequence in 0..100 {
            through(sequence);
        }
        WATCHED.store(worker_thread(), Ordering::Relaxed);
        for sequence in 100..5_100 {
            through(sequence);
            if sequence % 100 == 0 {
                answers();
            }
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), 0);

        // The count counts: a flow more is an allocation more.
        install("127.0.0.1:20006", flow(second, there, false, false));
        through(5_100);
        through(5_101);
        assert_ne!(ALLOCATIONS.load(Ordering::Relaxed), 0);
    }
}
