//! A process that is killed with keys in the kernel's table.

use std::{
    collections::BTreeSet,
    env, fs, thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData, loaded_maps};
use relay_abi::srtp::{key::PreparedKey, stream::RowReference};
use zerocopy::IntoBytes as _;

use super::lab::config;
use crate::{
    media::{SrtpKey, SrtpSuite},
    namespace::Namespace,
    offload::{Datapath as _, Offload, XdpMode},
    process::{Process, ready_until_let_go},
    srtp::StreamKey,
};

/// Says to the process that it is the one to be killed.
const ROLE: &str = "TRUNKLINE_TEST_KILLED";
const TEST: &str = "offload::rooted::killed::nothing_of_a_killed_process_keeps_its_keys";
const ROW: u32 = 3;

fn key() -> StreamKey {
    let key = SrtpKey {
        suite: SrtpSuite::AesCm128HmacSha1_80,
        master: (0..30).collect::<Vec<_>>().into(),
        mki: None,
    };
    StreamKey::new(&key).expect("a key")
}

/// No map is pinned and every program is held by descriptors alone, so nobody has to wipe what a
/// process that was killed had no time to wipe: the maps go with it, and those of the next one
/// begin with zeros.
#[test]
fn nothing_of_a_killed_process_keeps_its_keys() {
    if env::var(ROLE).is_ok() {
        return hold();
    }
    let inside = Namespace::new();
    let process = Process::start(&inside, TEST, ROLE, "holds");
    let before = maps(&process);
    assert_eq!(
        keys(&before),
        [key().as_bytes().to_vec()],
        "the test sees them"
    );
    assert!(inside.run("ip", "link show dev lo").contains("xdp"));

    process.kill();
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        // The table of programs, which are gone, the kernel may keep: it holds nothing else.
        let left = loaded_maps()
            .flatten()
            .filter(|map| before.contains(&map.id()) && map.name_as_str() != Some("PROGRAMS"))
            .count();
        let attached = inside.run("ip", "link show dev lo").contains("xdp");
        if left == 0 && !attached {
            break;
        }
        assert!(Instant::now() < end, "{left} {attached}");
        thread::yield_now();
    }

    let next = Process::start(&inside, TEST, ROLE, "holds");
    assert!(maps(&next).is_disjoint(&before));
}

/// The process to be killed: has a key in the kernel's table until it ends.
fn hold() {
    let mut offload = Offload::load(&config(&["lo"], XdpMode::Generic));
    let mut datapath = offload.take_datapath().expect("a datapath");
    let row = RowReference::new(ROW, 1).expect("a row");
    datapath.write_key(row, &key()).expect("written");
    ready_until_let_go();
}

/// What is in the row, of each table of keys among the maps.
fn keys(maps: &BTreeSet<u32>) -> Vec<Vec<u8>> {
    let tables = loaded_maps()
        .flatten()
        .filter(|map| maps.contains(&map.id()) && map.name_as_str() == Some("KEYS"));
    tables
        .map(|map| {
            let data = MapData::from_id(map.id()).expect("it is there");
            let map = Map::from_map_data(data).expect("a map");
            let table: Array<_, [u8; size_of::<PreparedKey>()]> = map.try_into().expect("an array");
            table.get(&ROW, 0).expect("a row").to_vec()
        })
        .collect()
}

/// The numbers of the maps that a process has descriptors of.
fn maps(process: &Process) -> BTreeSet<u32> {
    let open = fs::read_dir(process.told("fdinfo")).expect("it lives");
    let texts = open.flatten().map(|open| fs::read_to_string(open.path()));
    texts
        .flatten()
        .flat_map(|text| {
            let lines = text.lines();
            let numbers =
                lines.filter_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok());
            numbers.collect::<Vec<_>>()
        })
        .collect()
}
