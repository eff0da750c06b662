//! Two namespaces joined by two veth pairs: the load's, with the generator's and the sink's ends,
//! and the relay's, with the ends between which it forwards.

use std::fs;

use tests::lab::{LabError, Namespace};

/// The generator's end.
pub const GENERATOR: &str = "gen0";
/// The relay's end towards the generator.
pub const INGRESS: &str = "in0";
/// The relay's end towards the sink.
pub const EGRESS: &str = "out0";
/// The sink's end.
pub const SINK: &str = "sink0";

/// The Ethernet addresses, the same in every run.
pub const GENERATOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const INGRESS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const EGRESS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
pub const SINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 4];

/// The namespaces; dropping it removes them.
pub struct Topology {
    pub load: Namespace,
    pub relay: Namespace,
}

impl Topology {
    /// Makes it.
    ///
    /// # Errors
    /// When `ip` refuses; without root, for one.
    pub fn new() -> Result<Self, LabError> {
        let name = format!("tl-{}-bench", std::process::id());
        let load = Namespace::create(format!("{name}-load"))?;
        let relay = Namespace::create(format!("{name}-relay"))?;
        join(
            &load,
            (GENERATOR, GENERATOR_MAC),
            &relay,
            (INGRESS, INGRESS_MAC),
        )?;
        join(&load, (SINK, SINK_MAC), &relay, (EGRESS, EGRESS_MAC))?;
        Ok(Self { load, relay })
    }
}

fn join(
    load: &Namespace,
    (near, near_mac): (&str, [u8; 6]),
    relay: &Namespace,
    (far, far_mac): (&str, [u8; 6]),
) -> Result<(), LabError> {
    let near_mac = text(near_mac);
    let far_mac = text(far_mac);
    load.run(
        "ip",
        &[
            "link",
            "add",
            near,
            "address",
            &near_mac,
            "type",
            "veth",
            "peer",
            "name",
            far,
            "address",
            &far_mac,
            "netns",
            relay.name(),
        ],
    )?;
    for (namespace, interface) in [(load, near), (relay, far)] {
        // Without this the kernel's own neighbour and router discovery joins the packets counted.
        namespace.run(
            "sysctl",
            &["-qw", &format!("net.ipv6.conf.{interface}.disable_ipv6=1")],
        )?;
        namespace.run("ip", &["link", "set", interface, "up"])?;
        // A veth takes redirected frames only if its peer polls, which GRO makes it do.
        namespace.run("ethtool", &["-K", interface, "gro", "on"])?;
    }
    Ok(())
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The processor's name, for the report.
pub fn processor() -> String {
    fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or_else(
            || "unknown".to_owned(),
            |name| name.trim_start_matches([' ', '\t', ':']).to_owned(),
        )
}
