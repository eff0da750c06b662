//! Tests that load the programs into this machine's kernel.

use super::*;

fn config(interfaces: &[&str], mode: XdpMode) -> OffloadConfig {
    OffloadConfig {
        mode,
        forced: false,
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        flows: 64,
        next_hops: 16,
        media_ports: 20_000..=29_999,
        workers: 2,
    }
}

#[test]
fn the_kernel_takes_both_programs() {
    let mut offload = Offload::load(&config(&[], XdpMode::Native));
    assert!(offload.take_datapath().is_some(), "{:?}", offload.steps());
    assert!(offload.take_steering().is_some(), "{:?}", offload.steps());
}

#[test]
fn an_empty_packet_is_passed() {
    use aya::programs::{TestRun as _, TestRunOptions};
    let offload = Offload::load(&config(&[], XdpMode::Native));
    let program = offload.relay_program().expect("loaded");
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(&[0; 14]),
            ..TestRunOptions::default()
        })
        .expect("a test run");
    assert_eq!(result.return_value, 2);
}
