//! What a packet costs is told. The times differ from machine to machine, so only that they were
//! taken is asserted.

use crate::offload::srtp_cost;

#[test]
fn the_cost_of_a_packet_is_told() {
    for _ in 0..3 {
        let cost = srtp_cost().expect("measured");
        println!("{cost:?}");
        assert!(cost.both > cost.protect && cost.libsrtp_protect > 0);
    }
}
