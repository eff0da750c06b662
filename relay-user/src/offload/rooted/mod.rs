//! Tests that load the programs into this machine's kernel.

mod changing;
mod differential;
mod fixtures;
mod killed;
mod lab;
mod loading;
mod namespaces;
mod packets;
mod secured;
