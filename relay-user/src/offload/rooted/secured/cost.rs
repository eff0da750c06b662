//! What a packet costs is measured by packets that the kernel relays, every one of them: that is
//! held here. How long it takes differs from machine to machine, so it is told and not asserted.

use crate::offload::srtp_cost;

#[test]
fn what_a_packet_costs_can_be_measured() {
    let cost = srtp_cost().expect("every packet is relayed");
    println!("{cost:?}");
}
