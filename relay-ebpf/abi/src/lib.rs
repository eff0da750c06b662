//! What both sides of the kernel boundary share: the types of the maps, views of the headers, the
//! checks and the rewriting. `no_std`, no unsafe: the XDP program and the slow path call the same
//! functions, so they cannot disagree about a packet.
//!
//! Fields that come from or go into packets are big-endian and unaligned (`zerocopy`'s network
//! integers); counters, which never leave the machine, are native `u64`. No type has padding.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod checksum;
pub mod clock;
pub mod common;
pub mod counters;
mod datagram;
pub mod demultiplex;
pub mod event;
pub mod flow;
pub mod frame;
pub mod headers;
mod link;
pub mod measure;
pub mod next_hop;
pub mod placed;
pub mod processor;
pub mod punted;
pub mod reception;
pub mod relay;
pub mod row;
pub mod rtp;
pub mod secured;
pub mod settings;
pub mod shared;
pub mod srtp;
pub mod tables;
pub mod verdict;

pub use zerocopy::network_endian::{U16, U32};
