//! `bench`: measures and tells.

mod fast;
mod topology;

use std::error::Error;

use fast::{Chain, Relay};
use topology::Topology;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let topology = Topology::new()?;
    println!("{}", topology::processor());
    for round in 0..3 {
        for (relay, flows) in [
            (Relay::Limit, 1),
            (Relay::Trunkline, 1),
            (Relay::Trunkline, 1_000),
            (Relay::Limit, 100_000),
            (Relay::Trunkline, 100_000),
        ] {
            let mut chain = Chain::new(&topology, relay, flows)?;
            chain.run(&topology, 1 << 16)?;
            let run = chain.run(&topology, 1 << 20)?;
            println!(
                "{round} {relay:?} {flows}: {:.2} Mpps, {:.1} ns, lost {}",
                run.rate() / 1e6,
                1e9 / run.rate(),
                run.sent - run.arrived
            );
        }
    }
    Ok(())
}
