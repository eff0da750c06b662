//! Metrics in OpenMetrics text, and the HTTP server that shows them.

mod connection;
mod exposition;
mod figures;
mod server;
#[cfg(test)]
mod tests;

pub use server::{MetricsError, MetricsServer};
