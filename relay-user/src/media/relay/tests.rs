//! The calls over a datapath in memory and workers that only note what they are told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use relay_abi::{
    counters::{FlowCounters, ReasonCounters},
    event::FirstDrop,
    flow::{FlowEntry, FlowKey},
    next_hop::NextHop,
    reception::Reception,
    srtp::{key::PreparedKey, stream::RowReference},
    verdict::Reason,
};

use super::{
    KernelTables, Relay, RelayConfig, StartError,
    plane::{Parts, Plane},
    rows::SrtpRows,
    slow_path::SlowPath,
};
use crate::{
    media::{
        CallId, CallMedia, Family, Latching, MediaError, MediaInterface, MediaPort, Path,
        PathReason, SrtpKey, SrtpKeys, SrtpOffload, SrtpSuite, StreamState, ports::Ports,
        tests::call,
    },
    offload::{
        Capacity, Datapath, DatapathError, MemoryDatapath, OffloadConfig, StreamStates, XdpMode,
    },
    slow::{SlowCounters, SlowError, SlowFlow, WorkersSnapshot, endpoint, flow_key},
    srtp::Rows,
};

/// A datapath that the test looks into, and whose counters it sets.
#[derive(Clone)]
struct Open {
    inside: Arc<Mutex<MemoryDatapath>>,
    counted: Arc<Mutex<HashMap<u32, FlowCounters>>>,
}

impl Datapath for Open {
    fn install(&mut self, key: &FlowKey, entry: &FlowEntry) -> Result<(), DatapathError> {
        self.inside.lock().unwrap().install(key, entry)
    }
    fn remove(&mut self, key: &FlowKey) -> Result<(), DatapathError> {
        self.inside.lock().unwrap().remove(key)
    }
    fn read(&self, counters: u32) -> Result<FlowCounters, DatapathError> {
        let counted = self.counted.lock().unwrap().get(&counters).copied();
        counted.map_or_else(|| self.inside.lock().unwrap().read(counters), Ok)
    }
    fn clear_counters(&mut self, counters: u32) -> Result<(), DatapathError> {
        self.counted.lock().unwrap().remove(&counters);
        self.inside.lock().unwrap().clear_counters(counters)
    }
    fn set_next_hop(&mut self, index: u32, next_hop: &NextHop) -> Result<(), DatapathError> {
        self.inside.lock().unwrap().set_next_hop(index, next_hop)
    }
    fn set_device(&mut self, slot: u32, interface: u32) -> Result<(), DatapathError> {
        self.inside.lock().unwrap().set_device(slot, interface)
    }
    fn write_key(&mut self, row: RowReference, key: &PreparedKey) -> Result<(), DatapathError> {
        self.inside.lock().unwrap().write_key(row, key)
    }
    fn wipe_key(&mut self, row: RowReference) -> Result<(), DatapathError> {
        self.inside.lock().unwrap().wipe_key(row)
    }
    fn streams(&self) -> Arc<StreamStates> {
        self.inside.lock().unwrap().streams()
    }
    fn srtp(&self) -> Result<(), String> {
        self.inside.lock().unwrap().srtp()
    }
    fn reasons(&self) -> Result<Vec<(Reason, ReasonCounters)>, DatapathError> {
        self.inside.lock().unwrap().reasons()
    }
    fn events(&mut self) -> Vec<FirstDrop> {
        self.inside.lock().unwrap().events()
    }
    fn event_losses(&self) -> Result<u64, DatapathError> {
        self.inside.lock().unwrap().event_losses()
    }
    fn flow_count(&self) -> u32 {
        self.inside.lock().unwrap().flow_count()
    }
    fn capacity(&self) -> Capacity {
        self.inside.lock().unwrap().capacity()
    }
    fn map_memory(&self) -> u64 {
        self.inside.lock().unwrap().map_memory()
    }
}

/// Workers that note, and refuse on demand.
#[derive(Default)]
struct Noted {
    flows: Mutex<HashMap<FlowKey, SlowFlow>>,
    counters: Mutex<HashMap<FlowKey, SlowCounters>>,
    refused: Mutex<Option<FlowKey>>,
    busy: Mutex<bool>,
}

impl SlowPath for Noted {
    fn install(&self, key: FlowKey, flow: SlowFlow) -> Result<(), SlowError> {
        if *self.refused.lock().unwrap() == Some(key) {
            return Err(SlowError::Full { limit: 7 });
        }
        self.flows.lock().unwrap().insert(key, flow);
        Ok(())
    }
    fn remove(&self, key: &FlowKey) -> Result<(), SlowError> {
        if *self.busy.lock().unwrap() {
            return Err(SlowError::Busy { worker: 0 });
        }
        self.flows.lock().unwrap().remove(key);
        Ok(())
    }
    fn read(&self, key: &FlowKey) -> Option<SlowCounters> {
        self.counters.lock().unwrap().get(key).copied()
    }
    fn snapshot(&self) -> WorkersSnapshot {
        WorkersSnapshot::default()
    }
}

struct Bench {
    plane: Plane,
    datapath: Open,
    tables: KernelTables,
    slow: Noted,
}

const CALL: CallId = CallId(1);
const XDP: [Path; 2] = [Path::Xdp; 2];

fn userspace(reason: PathReason) -> [Path; 2] {
    [Path::Userspace(reason); 2]
}

impl Bench {
    fn new(flows: u32) -> Self {
        let interfaces = [("carrier0", "198.51.100.1"), ("centre0", "192.0.2.1")];
        let interfaces = interfaces.map(|(name, address)| MediaInterface {
            name: name.into(),
            addresses: vec![address.parse().unwrap()],
        });
        let ports = 20000..=20199;
        let datapath = Open {
            inside: Arc::new(Mutex::new(MemoryDatapath::new(&OffloadConfig {
                mode: XdpMode::Native,
                forced: false,
                interfaces: Vec::new(),
                flows,
                next_hops: 16,
                srtp_streams: 2 * flows,
                media_ports: ports.clone(),
                workers: 1,
            }))),
            counted: Arc::default(),
        };
        let boxed: Box<dyn Datapath> = Box::new(datapath.clone());
        let offloaded = interfaces.iter().map(|one| one.addresses[0]).collect();
        let rows = Rows::resting(datapath.streams(), 2 * flows, Duration::ZERO);
        let srtp = SrtpRows::new(SrtpOffload::Loaded, Some(rows));
        Self {
            plane: Plane::new(Ports::new(&interfaces, &ports), flows, srtp, offloaded),
            datapath,
            tables: KernelTables {
                datapath: Some(Arc::new(Mutex::new(boxed))),
            },
            slow: Noted::default(),
        }
    }

    /// A call's description on ports of its own.
    fn media(&mut self) -> CallMedia {
        let mut media = call();
        for (leg, interface) in media.legs.iter_mut().zip(["carrier0", "centre0"]) {
            leg.port = self.plane.ports.reserve(interface, Family::V4).unwrap();
        }
        media
    }

    fn connect(&mut self, id: CallId, media: &CallMedia) -> Result<[Path; 2], MediaError> {
        let parts = Parts {
            tables: &self.tables,
            next_hops: None,
            slow: &self.slow,
        };
        self.plane.connect(&parts, id, media.clone())
    }

    fn disconnect(&mut self, id: CallId) {
        let parts = Parts {
            tables: &self.tables,
            next_hops: None,
            slow: &self.slow,
        };
        self.plane.disconnect(&parts, id);
    }

    fn entry(&self, port: MediaPort) -> Option<FlowEntry> {
        self.datapath
            .inside
            .lock()
            .unwrap()
            .flow(&flow_key(port.rtp))
    }

    fn told(&self, port: MediaPort) -> SlowFlow {
        self.slow.flows.lock().unwrap()[&flow_key(port.rtp)].clone()
    }

    /// What a worker would tell of the flow as it was last told of it.
    fn news(&self, port: MediaPort, peer: &str, generation: u32) -> FlowEntry {
        let mut entry = self.told(port).entry;
        entry.peer = endpoint(peer.parse().unwrap());
        entry.ssrc_in = 0x1234.into();
        entry.timestamp_offset = 5.into();
        entry.generation = generation.into();
        entry
    }

    fn tell(&mut self, port: MediaPort, news: &FlowEntry) {
        let parts = Parts {
            tables: &self.tables,
            next_hops: None,
            slow: &self.slow,
        };
        self.plane.learned(&parts, &flow_key(port.rtp), news);
    }

    fn learn(&mut self, port: MediaPort, peer: &str, generation: u32) {
        let news = self.news(port, peer, generation);
        self.tell(port, &news);
    }

    fn statistics(&mut self, id: CallId) -> Option<[super::StreamStatistics; 2]> {
        self.plane.statistics(&self.tables, &self.slow, id)
    }
}

fn keys(octet: u8) -> SrtpKeys {
    keys_of(SrtpSuite::AesCm128HmacSha1_80, octet)
}

fn keys_of(suite: SrtpSuite, octet: u8) -> SrtpKeys {
    let key = SrtpKey {
        suite,
        master: vec![octet; suite.master_length()].into(),
        mki: None,
    };
    SrtpKeys {
        protect: key.clone(),
        unprotect: key,
    }
}

const PINNED: u16 = FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;

#[test]
fn without_a_port_to_give_out_nothing_starts() {
    let config = RelayConfig {
        interfaces: Vec::new(),
        ports: 20000..=20199,
        workers: 1,
        busy_poll: false,
        xdp: XdpMode::Off,
        xdp_forced: false,
        flows: 16,
        next_hops: 16,
        srtp_offload: true,
        srtp_streams: 16,
    };
    let refused = Relay::start(&config).map(|_| ()).unwrap_err();
    assert!(matches!(refused, StartError::NoPorts));
    assert!(refused.to_string().contains("[[interface]]"));
    assert!(config.offload().interfaces.is_empty());
}

#[test]
fn the_kernel_relays_nothing_until_a_worker_knows_the_source() {
    let mut bench = Bench::new(16);
    let media = bench.media();
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    for port in [first, second] {
        let entry = bench.entry(port).unwrap();
        assert_eq!(entry.flags.get() & PINNED, 0);
    }
    let states = bench.statistics(CALL).unwrap().map(|stream| stream.state);
    assert_eq!(states, [StreamState::Waiting; 2]);

    bench.learn(first, "198.51.100.77:6100", 1);
    let entry = bench.entry(first).unwrap();
    assert!(entry.has(PINNED));
    assert_eq!(entry.peer, endpoint("198.51.100.77:6100".parse().unwrap()));
    assert_eq!(entry.from, endpoint(second.rtp));
    assert_eq!(entry.to, endpoint("192.0.2.2:7000".parse().unwrap()));
    assert_eq!(entry.ssrc_in.get(), 0x1234);
    assert_eq!(entry.timestamp_offset.get(), 5);
    // What the other leg sends goes to the learned peer, not to what SDP said.
    let back = bench.entry(second).unwrap();
    assert_eq!(back.to, entry.peer);
    assert!(!back.has(FlowEntry::PINNED));
    let [forth, back] = bench.statistics(CALL).unwrap();
    assert_eq!(forth.state, StreamState::Flowing);
    assert_eq!(forth.peer, Some("198.51.100.77:6100".parse().unwrap()));
    assert_eq!(back.state, StreamState::Waiting);
}

#[test]
fn a_leg_that_has_not_said_where_it_receives_is_no_obstacle() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let remote = media.legs[1].remote.take();
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert!(bench.entry(first).unwrap().has(FlowEntry::USERSPACE));
    bench.learn(first, "198.51.100.2:6000", 1);
    assert!(bench.entry(first).unwrap().has(FlowEntry::USERSPACE));

    // It sends before it has said so: what it sends pins it, and it is sent to.
    let mut early = bench.entry(second).unwrap();
    assert!(!early.has(FlowEntry::USERSPACE));
    bench.learn(second, "192.0.2.9:7000", 1);
    early = bench.entry(first).unwrap();
    assert!(early.has(PINNED) && !early.has(FlowEntry::USERSPACE));
    assert_eq!(early.to, endpoint("192.0.2.9:7000".parse().unwrap()));

    media.legs[1].remote = remote;
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert_eq!(bench.entry(first), Some(early));
}

#[test]
fn hold_and_resume_keep_the_source_and_its_numbers() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    bench.learn(port, "198.51.100.2:6000", 1);
    let before = bench.entry(port).unwrap();

    media.streams[0].active = false;
    media.legs[0].negotiation += 1;
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert!(bench.entry(port).unwrap().has(PINNED | FlowEntry::HELD));
    assert!(bench.told(port).entry.has(FlowEntry::HELD));
    assert_eq!(bench.statistics(CALL).unwrap()[0].state, StreamState::Held);

    media.streams[0].active = true;
    bench.connect(CALL, &media).unwrap();
    assert_eq!(bench.entry(port), Some(before));
}

#[test]
fn only_relatching_forgets_the_source() {
    for (latching, moved, kept) in [
        (Latching::Latch, true, true),
        (Latching::Latch, false, true),
        (Latching::RelatchOnReinvite, false, false),
        (Latching::RelatchOnReinvite, true, false),
    ] {
        let mut bench = Bench::new(16);
        let mut media = bench.media();
        media.legs[0].sources.latching = latching;
        let port = media.legs[0].port;
        bench.connect(CALL, &media).unwrap();
        let early = bench.news(port, "198.51.100.2:6000", 1);
        bench.tell(port, &early);
        let before = bench.entry(port).unwrap();

        media.legs[0].negotiation += 1;
        if moved {
            media.legs[0].remote.as_mut().unwrap().rtp = "198.51.100.2:9000".parse().unwrap();
        }
        bench.connect(CALL, &media).unwrap();
        let now = bench.entry(port).unwrap();
        assert_eq!(now.has(FlowEntry::PINNED), kept, "{latching:?} {moved}");
        assert_eq!(now.ssrc_out, before.ssrc_out);

        // News from before that comes late pins nobody that was forgotten.
        bench.tell(port, &early);
        assert_eq!(bench.entry(port).unwrap().has(FlowEntry::PINNED), kept);
        bench.learn(port, "198.51.100.2:9000", 2);
        assert!(bench.entry(port).unwrap().has(FlowEntry::PINNED));
    }
}

#[test]
fn strictly_the_peer_is_whom_sdp_names() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    media.legs[0].sources.latching = Latching::Strict;
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    let named = endpoint("198.51.100.2:6000".parse().unwrap());
    for entry in [bench.entry(port).unwrap(), bench.told(port).entry] {
        assert!(entry.has(FlowEntry::PINNED) && !entry.has(FlowEntry::SSRC_KNOWN));
        assert_eq!(entry.peer, named);
    }
    assert_eq!(
        bench.statistics(CALL).unwrap()[0].state,
        StreamState::Waiting
    );
    let early = bench.news(port, "198.51.100.2:6000", 1);
    bench.tell(port, &early);

    // Another one is followed at once, and news of the first does not bring it back.
    media.legs[0].remote.as_mut().unwrap().rtp = "198.51.100.2:9000".parse().unwrap();
    bench.connect(CALL, &media).unwrap();
    bench.tell(port, &early);
    let named = endpoint("198.51.100.2:9000".parse().unwrap());
    assert!(bench.entry(port).unwrap().has(PINNED));
    assert_eq!(bench.entry(port).unwrap().peer, named);
    assert_eq!(bench.told(port).entry.peer, named);
    assert_eq!(bench.entry(media.legs[1].port).unwrap().to, named);

    // Latching from now on: whoever sends next.
    media.legs[0].sources.latching = Latching::Latch;
    bench.connect(CALL, &media).unwrap();
    bench.tell(port, &early);
    assert!(!bench.entry(port).unwrap().has(FlowEntry::PINNED));
}

#[test]
fn a_stream_that_changes_its_path_keeps_its_source() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    bench.learn(port, "198.51.100.2:6000", 1);
    let before = bench.entry(port).unwrap();

    media.legs[1].srtp = Some(keys_of(SrtpSuite::AeadAes128Gcm, 1));
    let path = userspace(PathReason::SrtpGcm);
    assert_eq!(bench.connect(CALL, &media), Ok(path));
    assert!(bench.entry(port).unwrap().has(FlowEntry::USERSPACE));
    let told = bench.told(port);
    assert!(told.protect.is_some() && told.unprotect.is_none());
    assert!(bench.told(media.legs[1].port).unprotect.is_some());

    media.legs[1].srtp = None;
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert_eq!(bench.entry(port), Some(before));
}

/// A call whose second leg is SRTP, and both sources known; the ports of both legs.
fn secured(bench: &mut Bench) -> (CallMedia, [MediaPort; 2]) {
    let mut media = bench.media();
    media.legs[1].srtp = Some(keys(1));
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    let ports = media.legs.each_ref().map(|leg| leg.port);
    bench.learn(ports[0], "198.51.100.2:6000", 1);
    announce(bench, ports[1], 1);
    bench.learn(ports[1], "192.0.2.2:7000", 1);
    (media, ports)
}

/// What a worker notes when it tells of a source.
fn announce(bench: &Bench, port: MediaPort, generation: u32) {
    let row = bench.told(port).unprotect_row.expect("a row");
    row.announce(generation);
}

#[test]
fn the_kernel_has_a_row_for_each_key_of_a_leg_with_srtp() {
    let mut bench = Bench::new(16);
    let (media, [first, second]) = secured(&mut bench);
    let [out, back] = [first, second].map(|port| bench.entry(port).unwrap());
    assert!(out.has(PINNED | FlowEntry::PROTECT) && !out.has(FlowEntry::UNPROTECT));
    assert!(back.has(PINNED | FlowEntry::UNPROTECT) && !back.has(FlowEntry::PROTECT));
    let rows = [out.protect, back.unprotect];
    assert_ne!(rows[0], rows[1]);
    let states = bench.datapath.streams();
    for row in rows {
        assert!(states.get(row.row()).unwrap().is(row));
    }
    let told = [first, second].map(|port| bench.told(port));
    assert_eq!(told[0].protect_row.as_ref().unwrap().reference(), rows[0]);
    assert_eq!(told[1].unprotect_row.as_ref().unwrap().reference(), rows[1]);
    assert_eq!(bench.plane.srtp.used(), 2);

    // The same keys go on as they are, whatever else is negotiated.
    let mut refreshed = media.clone();
    refreshed.legs[1].negotiation += 1;
    refreshed.streams[0].payload_types = vec![(0, 8)];
    assert_eq!(bench.connect(CALL, &refreshed), Ok(XDP));
    let [now, then] = [first, second].map(|port| bench.entry(port).unwrap());
    assert_eq!((now.protect, then), (out.protect, back));
    assert!(now.has(PINNED));

    drop(told);
    bench.disconnect(CALL);
    for row in rows {
        assert!(!states.get(row.row()).unwrap().is(row), "wiped");
    }
    assert_eq!(bench.plane.srtp.used(), 0);
}

#[test]
fn a_new_key_has_a_row_of_its_own_and_its_source_is_asked_for_again() {
    let mut bench = Bench::new(16);
    let (mut media, [first, second]) = secured(&mut bench);
    let [out, back] = [first, second].map(|port| bench.entry(port).unwrap());
    let stale = bench.news(second, "192.0.2.2:7000", 1);
    let states = bench.datapath.streams();
    states.get(back.unprotect.row()).unwrap().refuse();

    let mut renewed = keys(1);
    renewed.unprotect = keys(2).unprotect;
    media.legs[1].srtp = Some(renewed);
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    let [same, other] = [first, second].map(|port| bench.entry(port).unwrap());
    assert_eq!(same, out);
    assert_ne!(other.unprotect, back.unprotect);
    assert!(other.has(FlowEntry::PINNED | FlowEntry::UNPROTECT));
    assert!(!other.has(FlowEntry::SSRC_KNOWN));
    assert!(
        states
            .get(other.unprotect.row())
            .unwrap()
            .is(other.unprotect)
    );
    assert!(!states.get(back.unprotect.row()).unwrap().is(back.unprotect));
    assert_eq!(bench.statistics(CALL).unwrap()[1].srtp_failures, 1);

    bench.tell(second, &stale);
    assert!(!bench.entry(second).unwrap().has(FlowEntry::SSRC_KNOWN));
    announce(&bench, second, 2);
    bench.learn(second, "192.0.2.2:7000", 2);
    assert!(bench.entry(second).unwrap().has(PINNED));
}

#[test]
fn the_kernel_works_by_the_state_that_the_last_news_names() {
    let mut bench = Bench::new(16);
    let (_, [_, second]) = secured(&mut bench);
    let mut news = bench.news(second, "192.0.2.2:7000", 2);
    news.ssrc_in = 9.into();
    news.flags = (news.flags.get() | FlowEntry::UNPROTECT_SECOND).into();
    // A third source has been told of already, in the first one's state.
    announce(&bench, second, 3);
    bench.tell(second, &news);
    assert_eq!(bench.entry(second).unwrap().ssrc_in.get(), 0x1234);
    announce(&bench, second, 2);
    bench.tell(second, &news);
    let entry = bench.entry(second).unwrap();
    assert_eq!(entry.ssrc_in.get(), 9);
    assert!(entry.has(FlowEntry::UNPROTECT_SECOND));
}

#[test]
fn a_held_source_of_srtp_is_the_workers_and_comes_back_to_be_asked_for() {
    let mut bench = Bench::new(16);
    let (mut media, [first, second]) = secured(&mut bench);
    for stream in &mut media.streams {
        stream.active = false;
    }
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert!(
        bench
            .entry(second)
            .unwrap()
            .has(FlowEntry::HELD | FlowEntry::USERSPACE)
    );
    assert!(!bench.entry(first).unwrap().has(FlowEntry::USERSPACE));
    for stream in &mut media.streams {
        stream.active = true;
    }
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    for port in [first, second] {
        let entry = bench.entry(port).unwrap();
        assert!(entry.has(FlowEntry::PINNED) && !entry.has(FlowEntry::SSRC_KNOWN));
        assert!(!entry.has(FlowEntry::USERSPACE));
    }
    // Where the peers are is known all the same.
    let to = bench.entry(first).unwrap().to;
    assert_eq!(to, endpoint("192.0.2.2:7000".parse().unwrap()));
}

#[test]
fn a_key_that_found_no_row_stays_with_libsrtp_and_the_next_one_gets_one() {
    let mut bench = Bench::new(2);
    let rows = Rows::resting(bench.datapath.streams(), 1, Duration::ZERO);
    bench.plane.srtp = SrtpRows::new(SrtpOffload::Loaded, Some(rows));
    let mut media = bench.media();
    media.legs[1].srtp = Some(keys(1));
    let paths = [Path::Xdp, Path::Userspace(PathReason::SrtpStreams)];
    assert_eq!(bench.connect(CALL, &media), Ok(paths));
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    assert!(bench.told(first).protect_row.is_some());
    assert!(bench.told(second).unprotect_row.is_none());

    // A row is free again, but the key has begun without one.
    let mut renewed = media.clone();
    renewed.legs[1].srtp.as_mut().unwrap().protect.suite = SrtpSuite::AesCm128HmacSha1_32;
    assert_eq!(bench.connect(CALL, &renewed), Ok([paths[1]; 2]));
    assert_eq!(bench.connect(CALL, &media).map(|_| ()), Ok(()));
    assert!(bench.told(second).unprotect_row.is_none());
}

#[test]
fn what_the_kernel_has_not_taken_is_libsrtps() {
    for (offload, reason) in [
        (SrtpOffload::Off, PathReason::SrtpOff),
        (SrtpOffload::NotLoaded, PathReason::SrtpNotLoaded),
    ] {
        let mut bench = Bench::new(16);
        bench.plane.srtp = SrtpRows::new(offload, None);
        let mut media = bench.media();
        media.legs[1].srtp = Some(keys(1));
        assert_eq!(bench.connect(CALL, &media), Ok(userspace(reason)));
        let port = media.legs[0].port;
        assert!(bench.told(port).protect.is_some());
        assert!(bench.told(port).protect_row.is_none());
        assert!(!bench.entry(port).unwrap().has(FlowEntry::PROTECT));
    }
}

#[test]
fn a_full_kernel_leaves_calls_to_the_workers_and_takes_them_later() {
    let mut bench = Bench::new(2);
    let (one, other) = (bench.media(), bench.media());
    assert_eq!(bench.connect(CALL, &one), Ok(XDP));
    let full = userspace(PathReason::Capacity);
    assert_eq!(bench.connect(CallId(2), &other), Ok(full));
    assert_eq!(bench.entry(other.legs[0].port), None);
    bench.told(other.legs[0].port);
    bench.learn(other.legs[0].port, "198.51.100.2:6000", 1);
    assert_eq!(bench.entry(other.legs[0].port), None);

    // Counters of an ended call are nobody's when they are used again.
    let index = bench.entry(one.legs[0].port).unwrap().counters.get();
    let packets = FlowCounters {
        packets: 9,
        ..FlowCounters::default()
    };
    for index in [index, index + 1] {
        bench
            .datapath
            .counted
            .lock()
            .unwrap()
            .insert(index, packets);
    }
    assert_eq!(bench.statistics(CALL).unwrap()[0].packets_xdp, 9);
    bench.disconnect(CALL);
    assert_eq!(bench.entry(one.legs[0].port), None);
    let mut changed = other;
    changed.legs[0].negotiation += 1;
    assert_eq!(bench.connect(CallId(2), &changed), Ok(XDP));
    assert!(bench.entry(changed.legs[0].port).unwrap().has(PINNED));
    assert_eq!(bench.statistics(CallId(2)).unwrap()[0].packets_xdp, 0);
}

#[test]
fn what_a_worker_refuses_leaves_the_call_as_it_was() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    *bench.slow.refused.lock().unwrap() = Some(flow_key(second.rtp));
    let refusal = Err(MediaError::Capacity {
        table: "flows of the workers",
        limit: 7,
    });
    assert_eq!(bench.connect(CALL, &media), refusal);
    assert!(bench.slow.flows.lock().unwrap().is_empty());
    assert_eq!(bench.entry(first), None);
    assert_eq!(bench.statistics(CALL), None);

    *bench.slow.refused.lock().unwrap() = None;
    bench.connect(CALL, &media).unwrap();
    bench.learn(first, "198.51.100.2:6000", 1);
    let before = bench.entry(first);
    *bench.slow.refused.lock().unwrap() = Some(flow_key(second.rtp));
    media.streams[0].active = false;
    assert_eq!(bench.connect(CALL, &media), refusal);
    assert_eq!(bench.entry(first), before);
    assert!(!bench.told(first).entry.has(FlowEntry::HELD));
}

#[test]
fn ports_of_nobody_or_of_another_call_are_refused() {
    let mut bench = Bench::new(16);
    let media = bench.media();
    bench.connect(CALL, &media).unwrap();
    let refusal = |port: MediaPort| Err(MediaError::NotReserved { port: port.rtp });
    let first = media.legs[0].port;
    assert_eq!(bench.connect(CallId(2), &media), refusal(first));

    let mut same = bench.media();
    same.legs[1].port = same.legs[0].port;
    let port = same.legs[0].port;
    assert_eq!(bench.connect(CallId(2), &same), refusal(port));

    bench.disconnect(CALL);
    bench.plane.ports.release(first);
    assert_eq!(bench.connect(CALL, &media), refusal(first));
}

#[test]
fn statistics_are_of_both_views_and_never_fall_back() {
    let mut bench = Bench::new(16);
    let media = bench.media();
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    bench.learn(port, "198.51.100.2:6000", 1);
    let index = bench.entry(port).unwrap().counters.get();
    let view = |generation, base, highest, received, jitter, last_seen| FlowCounters {
        packets: u64::from(received),
        octets: u64::from(received) * 172,
        dropped: 1,
        last_seen,
        reception: Reception {
            generation,
            base_sequence: base,
            highest_sequence: highest,
            received,
            jitter,
            ..Reception::default()
        },
    };
    let worker = |flow| SlowCounters {
        flow,
        srtp_failures: 3,
        ..SlowCounters::default()
    };
    let set = |bench: &Bench, kernel, slow| {
        bench.datapath.counted.lock().unwrap().insert(index, kernel);
        let mut counters = bench.slow.counters.lock().unwrap();
        counters.insert(flow_key(port.rtp), worker(slow));
    };
    // The worker had the first ten, over the turn of the sequence numbers, and the kernel 85 of
    // the 90 after them.
    set(
        &bench,
        view(1, 4, 93, 85, 160, 20),
        view(1, 65530, 65539, 10, 1600, 10),
    );
    let [forth, _] = bench.statistics(CALL).unwrap();
    assert_eq!((forth.packets_xdp, forth.packets_userspace), (85, 10));
    assert_eq!((forth.octets, forth.dropped), (95 * 172, 2));
    assert_eq!((forth.lost, forth.srtp_failures), (5, 3));
    let expected = (160.0 * 85.0 + 1600.0 * 10.0) / 95.0 / 16.0 / 8.0;
    assert!((forth.jitter_ms - expected).abs() < 1e-9);

    // Another source takes over: what was lost before stays lost.
    bench.learn(port, "198.51.100.2:6000", 2);
    set(
        &bench,
        view(1, 4, 93, 85, 160, 20),
        view(2, 500, 509, 8, 0, 30),
    );
    assert_eq!(bench.statistics(CALL).unwrap()[0].lost, 7);
    set(
        &bench,
        view(2, 510, 519, 9, 0, 40),
        view(2, 500, 509, 8, 0, 30),
    );
    assert_eq!(bench.statistics(CALL).unwrap()[0].lost, 8);
    bench.disconnect(CALL);
    assert_eq!(bench.plane.lost(), 8);
}

#[test]
fn a_busy_worker_is_asked_again_but_not_for_a_port_that_is_in_use_anew() {
    let mut bench = Bench::new(16);
    let media = bench.media();
    let [first, second] = media.legs.each_ref().map(|leg| flow_key(leg.port.rtp));
    bench.connect(CALL, &media).unwrap();
    *bench.slow.busy.lock().unwrap() = true;
    bench.disconnect(CALL);
    bench.plane.sweep(&bench.slow);
    assert_eq!(bench.slow.flows.lock().unwrap().len(), 2);

    let mut reused = bench.media();
    reused.legs[0].port = media.legs[0].port;
    bench.connect(CallId(2), &reused).unwrap();
    *bench.slow.busy.lock().unwrap() = false;
    bench.plane.sweep(&bench.slow);
    let flows = bench.slow.flows.lock().unwrap();
    assert!(flows.contains_key(&first) && !flows.contains_key(&second));
}

#[test]
fn rtcp_goes_where_the_other_leg_wants_it() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    bench.connect(CALL, &media).unwrap();
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    let route = bench.told(first).rtcp;
    assert_eq!(route.from, endpoint(second.rtcp()));
    assert_eq!(route.to, endpoint("192.0.2.2:7001".parse().unwrap()));
    assert!(!route.multiplexed);

    media.legs[1].rtcp_mux = true;
    bench.connect(CALL, &media).unwrap();
    let route = bench.told(first).rtcp;
    assert_eq!(route.from, endpoint(second.rtp));
    assert_eq!(route.to, endpoint("192.0.2.2:7000".parse().unwrap()));
    assert!(route.multiplexed);
}

proptest! {
    /// Whatever calls do, in the end nothing is held: no flow, no counters, no port.
    #[test]
    fn everything_is_given_back(
        steps in prop::collection::vec((0_u8..6, 0_u64..4, any::<bool>()), 1..120),
    ) {
        let mut bench = Bench::new(6);
        let mut media: HashMap<CallId, CallMedia> = HashMap::new();
        for (step, id, flag) in steps {
            let id = CallId(id);
            match step {
                0 | 1 => {
                    let mut description = match media.get(&id) {
                        Some(known) => known.clone(),
                        None => bench.media(),
                    };
                    description.streams[0].active = flag;
                    description.legs[1].srtp = (step == 1).then(|| keys(id.0 as u8));
                    description.legs[0].negotiation += 1;
                    description.legs[0].sources.latching = Latching::RelatchOnReinvite;
                    let refused = flag && step == 1;
                    *bench.slow.refused.lock().unwrap() =
                        refused.then(|| flow_key(description.legs[1].port.rtp));
                    prop_assert_eq!(bench.connect(id, &description).is_err(), refused);
                    media.insert(id, description);
                }
                2 => {
                    let known = media.get(&id).map(|media| media.legs[usize::from(flag)].port);
                    if let Some(port) = known.filter(|_| bench.statistics(id).is_some()) {
                        bench.learn(port, "198.51.100.2:6000", u32::from(flag));
                    }
                }
                3 => bench.disconnect(id),
                4 => bench.plane.sweep(&bench.slow),
                _ => *bench.slow.busy.lock().unwrap() = flag,
            }
            let inside = bench.datapath.inside.lock().unwrap();
            prop_assert!(inside.flow_count() <= 6);
        }
        *bench.slow.busy.lock().unwrap() = false;
        for (id, description) in media {
            bench.disconnect(id);
            for leg in &description.legs {
                prop_assert!(bench.plane.ports.release(leg.port));
            }
        }
        bench.plane.sweep(&bench.slow);
        prop_assert_eq!(bench.datapath.flow_count(), 0);
        prop_assert!(bench.slow.flows.lock().unwrap().is_empty());
        prop_assert_eq!(bench.plane.ports.taken(), 0);
        prop_assert_eq!(bench.plane.srtp.used(), 0);
        // All the counters can be had again.
        let mut taken = Vec::new();
        for id in 10..13 {
            let description = bench.media();
            taken.push(bench.connect(CallId(id), &description));
        }
        prop_assert_eq!(taken, vec![Ok(XDP); 3]);
    }
}
