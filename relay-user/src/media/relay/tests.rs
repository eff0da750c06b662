//! The calls over a datapath in memory and workers that only note what they are told.

mod losses;
mod refusals;
mod secured;
mod sources;
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
    strays,
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

    fn with_plane<T>(&mut self, act: impl FnOnce(&mut Plane, &Parts<'_>) -> T) -> T {
        let parts = Parts {
            tables: &self.tables,
            next_hops: None,
            slow: &self.slow,
        };
        act(&mut self.plane, &parts)
    }

    fn connect(&mut self, id: CallId, media: &CallMedia) -> Result<[Path; 2], MediaError> {
        self.with_plane(|plane, parts| plane.connect(parts, id, media.clone()))
    }

    fn disconnect(&mut self, id: CallId) {
        self.with_plane(|plane, parts| plane.disconnect(parts, id));
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
        self.with_plane(|plane, parts| plane.learned(parts, &flow_key(port.rtp), news));
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
