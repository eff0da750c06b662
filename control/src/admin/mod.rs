//! The admin socket: what `trunkline calls`, `call`, `flows`, `trunks` and `stats` ask of a running
//! daemon.
//!
//! A client writes one [`Request`] as a line of JSON and reads one [`Answer`] as another; it may
//! then ask again.

mod client;
mod protocol;
mod report;
mod server;
mod table;
#[cfg(test)]
mod tests;

pub use client::{ClientError, ask};
pub use protocol::{
    AddressReport, Answer, CallReport, Count, FlowReport, InterfaceReport, LegReport, PacketCount,
    PortReport, RegistrationReport, Request, Response, ResponseCount, StatisticsReport,
    StreamReport, TrunkCount, TrunkReport,
};
pub(crate) use report::{codec_name, packets, path};
pub use server::{AdminServer, ServerError};
pub use table::{call_table, calls_table, flows_table, octets, statistics_table, trunks_table};
