//! Two namespaces joined by two veth pairs: the load's, with the generator's and the sink's ends,
//! and the relay's, with the ends between which it forwards. Or two interfaces that are there
//! already, joined by a cable.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{Failure, Place, Sender, pin, trial::wait_until};
use crate::media::Family;

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

/// The CPU of the generator, and of the whole chain where that is one CPU's.
pub const GENERATOR_CPU: usize = 0;
/// The CPU of the relay in userspace, to itself, its receive processing included.
pub const RELAY_CPU: usize = 1;
/// The CPU of the sink where it is not the generator's.
pub const SINK_CPU: usize = 2;

/// The addresses of a load, by family.
pub trait Addresses {
    /// Where the generated packets come from.
    fn caller(self) -> IpAddr;
    /// The relay's first address towards the caller. Flows beyond one address's ports are of the
    /// ones above it.
    fn ours_to_caller(self) -> IpAddr;
    /// The relay's address towards the callee.
    fn ours_to_callee(self) -> IpAddr;
    /// Where the relayed packets go.
    fn callee(self) -> IpAddr;
}

impl Addresses for Family {
    fn caller(self) -> IpAddr {
        address(self, 1, 2)
    }

    fn ours_to_caller(self) -> IpAddr {
        address(self, 1, 1)
    }

    fn ours_to_callee(self) -> IpAddr {
        address(self, 2, 1)
    }

    fn callee(self) -> IpAddr {
        address(self, 2, 2)
    }
}

fn address(family: Family, network: u8, host: u8) -> IpAddr {
    match (family, network) {
        (Family::V4, 1) => IpAddr::V4(Ipv4Addr::new(198, 51, 100, host)),
        (Family::V4, _) => IpAddr::V4(Ipv4Addr::new(203, 0, 113, host)),
        (Family::V6, _) => {
            let (network, host) = (u16::from(network), u16::from(host));
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host))
        }
    }
}

/// An interface and its Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub name: String,
    pub mac: [u8; 6],
}

/// The ends of the wires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    pub generator: End,
    pub ingress: End,
    pub egress: End,
    pub sink: End,
}

/// Where everything is; dropping it removes the namespaces that it made.
pub struct Topology {
    pub load: Place,
    pub relay: Place,
    pub ends: Ends,
    /// Whether the namespaces and interfaces were made for the measurement.
    made: bool,
}

impl Topology {
    /// Makes it.
    ///
    /// # Errors
    /// When `ip` refuses; without root, for one.
    pub fn new() -> Result<Self, Failure> {
        let load = Place::new()?;
        let relay = Place::new()?;
        join(
            &load,
            (GENERATOR, GENERATOR_MAC),
            &relay,
            (INGRESS, INGRESS_MAC),
        )?;
        join(&load, (SINK, SINK_MAC), &relay, (EGRESS, EGRESS_MAC))?;
        let end = |name: &str, mac| End {
            name: name.to_owned(),
            mac,
        };
        let topology = Self {
            load,
            relay,
            ends: Ends {
                generator: end(GENERATOR, GENERATOR_MAC),
                ingress: end(INGRESS, INGRESS_MAC),
                egress: end(EGRESS, EGRESS_MAC),
                sink: end(SINK, SINK_MAC),
            },
            made: true,
        };
        topology.address()?;
        Ok(topology)
    }

    /// Two interfaces of the calling thread's namespace that a cable joins: packets leave by `load`,
    /// and the relay is on `relay` and sends them back. Nothing of their settings is changed; what
    /// else they carry is lost while something is measured.
    ///
    /// # Errors
    /// When one of them is not there or is down, or both are one.
    pub fn between(load: &str, relay: &str) -> Result<Self, Failure> {
        if load == relay {
            return Err(format!("{load} cannot be both ends of a cable").into());
        }
        let here = Place::here()?;
        let (load, relay) = (end(&here, load)?, end(&here, relay)?);
        Ok(Self {
            load: here,
            relay: Place::here()?,
            ends: Ends {
                generator: load.clone(),
                ingress: relay.clone(),
                egress: relay,
                sink: load,
            },
            made: false,
        })
    }

    /// Whether a packet is counted when the call that made it is back: one CPU carries it through.
    #[must_use]
    pub fn at_once(&self) -> bool {
        self.made
    }

    /// Gives the relay's side addresses and neighbours that need no discovery.
    fn address(&self) -> Result<(), Failure> {
        for (interface, ours, theirs, mac) in [
            (
                INGRESS,
                Addresses::ours_to_caller as fn(Family) -> IpAddr,
                Addresses::caller as fn(Family) -> IpAddr,
                GENERATOR_MAC,
            ),
            (
                EGRESS,
                Addresses::ours_to_callee,
                Addresses::callee,
                SINK_MAC,
            ),
        ] {
            for (family, length) in [(Family::V4, 24), (Family::V6, 64)] {
                let address = format!("{}/{length}", ours(family));
                let mut add = vec!["address", "add", &address, "dev", interface];
                if family == Family::V6 {
                    add.push("nodad");
                }
                self.relay.run("ip", &add)?;
                let neighbour = theirs(family).to_string();
                let mac = text(mac);
                self.relay.run(
                    "ip",
                    &[
                        "neighbour",
                        "add",
                        &neighbour,
                        "lladdr",
                        &mac,
                        "nud",
                        "permanent",
                        "dev",
                        interface,
                    ],
                )?;
            }
        }
        Ok(())
    }

    /// Leaves the sink's receive processing to the CPU that sends to it, so that a chain is one
    /// CPU's, or takes it to a third one. Interfaces that were there before stay as they are.
    ///
    /// # Errors
    /// When the kernel has no threaded NAPI.
    pub fn spread(&self, spread: bool) -> Result<(), Failure> {
        if !self.made {
            return Ok(());
        }
        let threaded = u8::from(spread);
        self.load
            .run_with_devices(&format!("echo {threaded} > /sys/class/net/{SINK}/threaded"))?;
        Ok(())
    }

    /// Lets the sink look for packets every 20 µs, as a NIC with moderated interrupts does, or at
    /// once. Waking it for each packet costs whoever sends, and is no part of relaying. An interface
    /// that was there before stays as it is.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn moderate_sink(&self, moderate: bool) -> Result<(), Failure> {
        if !self.made {
            return Ok(());
        }
        let moderation = match moderate {
            true => Moderation::For {
                nanoseconds: 20_000,
                looks: 1,
            },
            false => Moderation::None,
        };
        moderate_interrupts(&self.load, SINK, moderation)
    }

    /// Lets the relay's side receive at once, on the CPU that sends to it. An interface that was
    /// there before stays as it is.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn receive_where_sent(&self) -> Result<(), Failure> {
        if !self.made {
            return Ok(());
        }
        self.steer(0)?;
        moderate_interrupts(&self.relay, INGRESS, Moderation::None)
    }

    /// Which CPUs, as a mask, the packets that the relay's side received are steered to.
    fn steer(&self, mask: u32) -> Result<(), Failure> {
        self.relay.run_with_devices(&format!(
            "echo {mask:x} > /sys/class/net/{INGRESS}/queues/rx-0/rps_cpus"
        ))?;
        Ok(())
    }

    /// Lets the relay's side receive every 50 µs on the CPU that sends to it, and hand on to the
    /// stack on the relay's CPU.
    ///
    /// # Errors
    /// When the kernel has no receive packet steering.
    pub fn steer_to_relays_cpu(&self) -> Result<(), Failure> {
        self.steer(1 << RELAY_CPU)?;
        let moderation = Moderation::For {
            nanoseconds: EVERY,
            looks: 1,
        };
        moderate_interrupts(&self.relay, INGRESS, moderation)
    }

    /// Lets the relay's side receive every 50 µs on the relay's CPU, XDP programs included, as a
    /// NIC does whose interrupts are moderated and are that CPU's. `sender` sends to it.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn receive_on_relays_cpu(&self, sender: &Sender) -> Result<(), Failure> {
        self.receive_where_sent()?;
        let looked = |at: &str| -> Result<u64, Failure> {
            let path = format!("/sys/class/net/{INGRESS}/statistics/{at}");
            let text = self.relay.run_with_devices(&format!("cat {path}"))?;
            Ok(text.trim().parse()?)
        };
        let before = looked("rx_packets")?;
        let moderation = Moderation::For {
            nanoseconds: EVERY,
            looks: i32::MAX as u32,
        };
        moderate_interrupts(&self.relay, INGRESS, moderation)?;
        // Who sends the first frame polls the device for it. From then on a timer of that CPU does:
        // so many empty looks have no end.
        self.load.enter(|| {
            pin(0, RELAY_CPU)?;
            Ok::<_, Failure>(sender.send(&[&STRAY])?)
        })??;
        let received = wait_until(Duration::from_secs(5), || {
            looked("rx_packets").is_ok_and(|packets| packets > before)
        });
        match received {
            true => Ok(()),
            false => Err("the relay's interface does not receive".into()),
        }
    }

    /// Puts the sink's receive thread, which is there once a program is attached, on its CPU, and
    /// before everything else there: what the sink has no time for would look like the relay's
    /// loss.
    ///
    /// # Errors
    /// When the thread is not there.
    pub fn place_sink(&self) -> Result<(), Failure> {
        let mut placed = 0;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(process) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.starts_with(&format!("napi/{SINK}")) {
                pin(process, SINK_CPU)?;
                self.load
                    .run("chrt", &["--fifo", "--pid", "50", &process.to_string()])?;
                placed += 1;
            }
        }
        if placed == 0 {
            return Err("the sink's interface has no receive thread of its own".into());
        }
        Ok(())
    }
}

/// How often a relay's side receives, in nanoseconds.
const EVERY: u32 = 50_000;

/// A frame of a kind that nobody knows.
const STRAY: [u8; 60] = [0xff; 60];

/// How an interface is kept from interrupting for each packet.
enum Moderation {
    /// It is not.
    None,
    /// It is looked at so often, until it was found empty so many times.
    For { nanoseconds: u32, looks: u32 },
}

fn moderate_interrupts(
    place: &Place,
    interface: &str,
    moderation: Moderation,
) -> Result<(), Failure> {
    let (looks, nanoseconds) = match moderation {
        Moderation::None => (0, 0),
        Moderation::For { nanoseconds, looks } => (looks, nanoseconds),
    };
    place.run_with_devices(&format!(
        "echo {looks} > /sys/class/net/{interface}/napi_defer_hard_irqs && \
         echo {nanoseconds} > /sys/class/net/{interface}/gro_flush_timeout"
    ))?;
    Ok(())
}

fn join(
    load: &Place,
    (near, near_mac): (&str, [u8; 6]),
    relay: &Place,
    (far, far_mac): (&str, [u8; 6]),
) -> Result<(), Failure> {
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
            &relay.path().to_string_lossy(),
        ],
    )?;
    // The kernel's own neighbour and router discovery would join the packets counted.
    load.run(
        "sysctl",
        &["-qw", &format!("net.ipv6.conf.{near}.disable_ipv6=1")],
    )?;
    relay.run(
        "sysctl",
        &[
            "-qw",
            &format!("net.ipv6.conf.{far}.accept_ra=0"),
            &format!("net.ipv6.conf.{far}.router_solicitations=0"),
            &format!("net.ipv6.conf.{far}.addr_gen_mode=1"),
            &format!("net.ipv6.conf.{far}.accept_dad=0"),
        ],
    )?;
    for (namespace, interface) in [(load, near), (relay, far)] {
        namespace.run("ip", &["link", "set", interface, "up"])?;
        // A veth takes redirected frames only if its peer polls, which GRO makes it do.
        namespace.run("ethtool", &["-K", interface, "gro", "on"])?;
        // Only the software of both sides could make good what was left undone.
        namespace.run("ethtool", &["-K", interface, "tx", "off"])?;
    }
    Ok(())
}

/// An interface of `place` as it is.
fn end(place: &Place, name: &str) -> Result<End, Failure> {
    let told = place.run("ip", &["-oneline", "link", "show", "dev", name, "up"])?;
    let mac = told.split_once("link/ether ").and_then(|(_, rest)| {
        let mut octets = [0; 6];
        let mut texts = rest.split_whitespace().next()?.split(':');
        for octet in &mut octets {
            *octet = u8::from_str_radix(texts.next()?, 16).ok()?;
        }
        Some(octets)
    });
    let mac = mac.ok_or_else(|| format!("{name} is no Ethernet interface that is up"))?;
    Ok(End {
        name: name.to_owned(),
        mac,
    })
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// What the report says of the machine.
pub struct Machine {
    pub processor: String,
    pub cpus: usize,
    pub kernel: String,
}

impl Machine {
    pub fn here() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo")
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or_else(
                || "unknown".to_owned(),
                |name| name.trim_start_matches([' ', '\t', ':']).to_owned(),
            );
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
        }
    }
}
