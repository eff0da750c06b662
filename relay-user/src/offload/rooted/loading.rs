//! Loading, attaching and falling back.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::Map;

use super::lab::{Lab, config};
use crate::offload::{
    Datapath as _, Offload, OffloadConfig, XdpMode, layout::LONGEST, loader::open, memory, rings,
};

#[test]
fn the_kernel_takes_both_programs() {
    let mut offload = Offload::load(&config(&[], XdpMode::Native));
    let datapath = offload.take_datapath();
    assert_eq!(
        datapath.map(|datapath| datapath.srtp()),
        Some(Ok(())),
        "{:?}",
        offload.steps()
    );
    assert!(offload.take_steering().is_some(), "{:?}", offload.steps());
}

#[test]
fn an_interface_that_is_not_there_is_said_and_survived() {
    let mut offload = Offload::load(&config(&["tl-nowhere"], XdpMode::Native));
    let [state] = offload.interfaces() else {
        panic!("{:?}", offload.interfaces());
    };
    assert_eq!(state.mode, XdpMode::Off);
    assert_eq!(state.index, None);
    assert!(state.why.contains("no such interface"), "{}", state.why);
    assert!(
        offload
            .steps()
            .iter()
            .any(|step| step.contains("trying generic XDP")),
        "{:?}",
        offload.steps()
    );
    assert!(offload.take_steering().is_some());
}

#[test]
fn a_forced_mode_has_no_fallback() {
    let forced = OffloadConfig {
        forced: true,
        ..config(&["tl-nowhere"], XdpMode::Native)
    };
    let offload = Offload::load(&forced);
    assert!(
        offload.steps().iter().all(|step| !step.contains("generic")),
        "{:?}",
        offload.steps()
    );
}

#[test]
fn off_attaches_nothing_but_the_steering() {
    let mut offload = Offload::load(&config(&["lo"], XdpMode::Off));
    assert!(offload.take_datapath().is_none());
    assert!(offload.take_steering().is_some());
    assert_eq!(offload.interfaces()[0].mode, XdpMode::Off);
    assert_eq!(offload.interfaces()[0].why, "off in the configuration");
}

/// The kernel tells what a map takes in `/proc/self/fdinfo`. What it takes for each possible CPU
/// and for alignment may differ by a little from what we compute, and never above it by more.
/// Before Linux 6.4 it tells something else.
#[test]
fn the_computed_memory_is_what_the_kernel_says() {
    if kernel() < (6, 4) {
        return;
    }
    let config = OffloadConfig {
        flows: 20_000,
        next_hops: 4096,
        ..config(&[], XdpMode::Native)
    };
    let (mut bpf, elements) = open(&config, LONGEST).expect("loaded");
    let rings = rings::make(&mut bpf, config.workers).expect("rings");
    let mut total = 0;
    let mut add = |descriptor: i32| {
        let text =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).expect("fdinfo");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("memlock:"))
            .expect("a memlock line");
        total += line.trim().parse::<u64>().expect("a number");
    };
    for (name, map) in bpf.maps() {
        let (Map::HashMap(map)
        | Map::Array(map)
        | Map::PerCpuArray(map)
        | Map::DevMap(map)
        | Map::ProgramArray(map)
        | Map::RingBuf(map)
        | Map::ArrayOfMaps(map)
        | Map::SockMap(map)) = map
        else {
            panic!("{name} is of a kind that is not counted");
        };
        add(map.fd().as_fd().as_raw_fd());
    }
    for ring in &rings {
        add(ring.as_raw_fd());
    }
    for element in [
        &elements.tables,
        &elements.processors,
        elements.counters.as_ref().expect("in one element"),
    ] {
        add(element.as_raw_fd());
    }
    let computed = memory(&config);
    assert!(
        total.abs_diff(computed) * 20 < computed,
        "the kernel says {total}, we say {computed}"
    );
}

/// The running kernel's version, its first two numbers.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
    let mut numbers = release.split(['.', '-']).map(str::parse);
    let mut next = || numbers.next().expect("a number").expect("a number");
    (next(), next())
}

#[test]
fn a_full_table_and_a_wrong_flow_are_refused_by_name() {
    let mut lab = Lab::new();
    lab.set_next_hop(3, &super::lab::next_hop(&[]));
    let entry = super::lab::entry(
        "198.51.100.2:30000",
        "203.0.113.1:20002",
        "203.0.113.2:40000",
    );
    for flow in 0..64 {
        let key = super::lab::key(&format!("198.51.100.1:{}", 20_000 + flow * 2));
        lab.install(&key, &entry).expect("room");
    }
    assert_eq!(lab.kernel.flow_count(), 64);
    let key = super::lab::key("198.51.100.1:21000");
    let full = lab.install(&key, &entry).expect_err("full").to_string();
    assert_eq!(
        full,
        "the kernel's table flows is full at 64: raise [media] flows"
    );
    lab.remove(&super::lab::key("198.51.100.1:20000"));
    lab.install(&key, &entry).expect("room again");

    let mixed = super::lab::entry("198.51.100.2:30000", "203.0.113.1:20002", "[2001:db8::1]:4");
    let wrong = lab.install(&key, &mixed).expect_err("two families");
    assert!(wrong.to_string().contains("address families"), "{wrong}");
    let outside = super::lab::key("198.51.100.1:19998");
    let wrong = lab.install(&outside, &entry).expect_err("outside");
    assert!(wrong.to_string().contains("media port range"), "{wrong}");
}

/// The verifier walks every path: a change that multiplies what it has to look at would be refused
/// by some kernel sooner or later, so it is to be noticed here. The limit is a million.
#[test]
fn the_verifier_has_little_to_look_at() {
    let offload = Offload::load(&config(&[], XdpMode::Native));
    let information = offload
        .relay_program()
        .expect("loaded")
        .info()
        .expect("information");
    let verified = information
        .verified_instruction_count()
        .expect("a count, from Linux 5.16 on");
    assert!(verified < 100_000, "{verified} instructions were looked at");
}

/// The programs for SRTP are long; the half of the limit is theirs.
#[test]
fn the_verifier_is_done_with_the_others_at_half_its_limit() {
    let offload = Offload::load(&config(&[], XdpMode::Native));
    let programs = offload.further_programs();
    assert_eq!(programs.len(), 3, "{:?}", offload.steps());
    for (name, program) in programs {
        let information = program.info().expect("information");
        let verified = information
            .verified_instruction_count()
            .expect("a count, from Linux 5.16 on");
        println!("{name}: {verified}");
        assert!(verified < 500_000, "{verified} instructions were looked at");
    }
}
