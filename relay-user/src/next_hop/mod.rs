//! Next hops: how a frame to a destination leaves the machine, kept true from netlink.
//!
//! [`NextHopTable`] is pure: links, addresses' routes, rules and neighbours go in as [`Event`]s,
//! rows of the kernel's table come out. [`Watcher`] is its thin edge to netlink.

mod decode;
mod inventory;
mod probe;
#[cfg(test)]
mod rooted;
mod routes;
mod socket;
mod table;
mod watcher;

pub use inventory::{Event, Inventory, Link, LinkKind, Neighbour, Target, Unresolved};
pub use routes::{Hop, Route, RouteKind, Rule, RuleAction};
pub use table::{NOWHERE, NextHopTable, Output, TableFull};
pub use watcher::{NextHopError, Sink, Watcher, lower_devices};
