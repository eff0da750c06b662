//! Installing a flow and removing it again, in memory and, as root, in the kernel's table.

use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use relay_abi::{
    U32,
    flow::{FlowEntry, PayloadTypePair},
};
use relay_user::{
    offload::{Datapath, MemoryDatapath, Offload, OffloadConfig, XdpMode},
    slow::{endpoint, flow_key},
};

/// How many other flows there are.
const OTHERS: u32 = 5_000;

fn entry(number: u32) -> FlowEntry {
    let address = |last| endpoint(SocketAddr::from(([203, 0, 113, last], 20_000)));
    let mut payload_types = [PayloadTypePair::default(); 8];
    payload_types[0] = PayloadTypePair {
        incoming: 8,
        outgoing: 8,
    };
    FlowEntry {
        from: address(1),
        to: address(2),
        counters: U32::new(number),
        generation: U32::new(1),
        clock_rate: U32::new(8_000),
        payload_type_count: 1,
        payload_types,
        ..FlowEntry::default()
    }
}

fn install(criterion: &mut Criterion, name: &str, datapath: &mut dyn Datapath) {
    let key = |number: u32| {
        let port = 20_000 + 2 * (number % 20_000) as u16;
        flow_key(SocketAddr::from(([198, 51, 100, 1], port)))
    };
    for number in 0..OTHERS {
        datapath
            .install(&key(number), &entry(number))
            .expect("there is room");
    }
    let (key, entry) = (key(OTHERS), entry(OTHERS));
    criterion.bench_function(&format!("install and remove a flow, {name}"), |bencher| {
        bencher.iter(|| {
            datapath.install(&key, &entry).expect("installed");
            datapath.remove(&key).expect("removed");
        });
    });
}

fn flows(criterion: &mut Criterion) {
    let config = OffloadConfig {
        mode: XdpMode::Native,
        forced: false,
        interfaces: Vec::new(),
        flows: 2 * OTHERS,
        next_hops: 16,
        srtp_streams: 0,
        media_ports: 20_000..=59_999,
        workers: 1,
    };
    install(criterion, "in memory", &mut MemoryDatapath::new(&config));
    let mut offload = Offload::load(&config);
    match offload.take_datapath() {
        Some(mut datapath) => install(criterion, "in the kernel", &mut datapath),
        None => eprintln!("not in the kernel: {}", offload.steps().join("; ")),
    }
}

criterion_group!(benches, flows);
criterion_main!(benches);
