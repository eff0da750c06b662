//! Offload: what runs in the kernel. The XDP program is loaded and attached, its maps are sized,
//! filled and read here, and an sk_lookup program steers what it punts to the workers.
//!
//! Everything above talks to a [`Datapath`]; [`MemoryDatapath`] is one without a kernel.

mod configuration;
mod datapath;
mod elements;
mod error;
mod flow_table;
mod grace;
mod interrupted;
mod kernel_maps;
mod layout;
mod loader;
mod map_memory;
mod mapped;
mod memory;
mod next_hop_table;
mod rings;
mod shared_rows;
mod steering;
mod streams;
mod system_call;

#[cfg(test)]
mod rooted;

pub use configuration::{InterfaceState, OffloadConfig, XdpMode};
pub use datapath::{Capacity, Datapath};
pub use error::DatapathError;
pub(crate) use interrupted::{load_again, run_again, unless_interrupted};
pub use kernel_maps::XdpDatapath;
pub use layout::MOST_FLOWS;
pub use loader::Offload;
pub(crate) use loader::interface_index;
pub use map_memory::{memory, memory_on};
pub use memory::MemoryDatapath;
pub use rings::WorkerRing;
pub use steering::Steering;
pub use streams::StreamStates;
