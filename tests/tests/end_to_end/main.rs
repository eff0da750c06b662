//! Trunkline between real peers, in network namespaces. All of it needs root, which `rooted` in a
//! test's path says to `cargo xtask test`.

mod rooted;
