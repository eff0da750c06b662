//! What netlink told of the machine: links, routes, rules and neighbours.

use std::{collections::HashMap, fmt, net::IpAddr};

use relay_abi::{
    U16, U32,
    next_hop::{NextHop, VlanTag},
};

use super::routes::{Route, RouteKind, Routes, Rule};

/// One change that netlink tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Link(Link),
    LinkGone(u32),
    /// The flag says that the route takes the place of those with its prefix and metric.
    Route(Route, bool),
    RouteGone(Route),
    Rule(Rule),
    RuleGone(Rule),
    Neighbour(Target, Neighbour),
    NeighbourGone(Target),
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index.
    pub index: u32,
    pub name: String,
    pub kind: LinkKind,
    /// Its Ethernet address, if it has one.
    pub address: Option<[u8; 6]>,
    /// The largest IP packet in octets.
    pub mtu: u32,
    /// Administratively up, with a carrier.
    pub up: bool,
}

/// How frames leave by a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// As Ethernet frames, by the device itself.
    Ethernet,
    /// With a tag of this protocol (802.1Q or 802.1ad, by its EtherType), by another device.
    Vlan { lower: u32, id: u16, protocol: u16 },
    /// Not in a way that the XDP program could take; the kernel's name for the kind.
    Unsupported(String),
}

/// Somebody on a link: the gateway, or the destination itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The kernel's index of the device with the IP address: a VLAN device's own.
    pub device: u32,
    pub neighbour: IpAddr,
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its Ethernet address while the kernel would use it.
    pub address: Option<[u8; 6]>,
    /// Entered by hand: there is nothing to ask for.
    pub permanent: bool,
}

/// Why there is no frame for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No route, or one that leads nowhere.
    NoRoute,
    /// The destination is this machine.
    Local,
    /// The device is gone, down or without a carrier.
    DeviceDown,
    /// The device is of a kind that the XDP program does not send by.
    UnsupportedDevice { name: String, kind: String },
    /// The XDP program is not on the device that the frame would leave by.
    NotOffloaded { name: String },
    /// More than two VLAN tags.
    TooManyTags { name: String },
    /// The neighbour has not answered yet.
    Neighbour,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => formatter.write_str("no route"),
            Self::Local => formatter.write_str("the destination is this machine"),
            Self::DeviceDown => formatter.write_str("the device is down"),
            Self::UnsupportedDevice { name, kind } => {
                write!(formatter, "{name} is a {kind} device")
            }
            Self::NotOffloaded { name } => {
                write!(formatter, "the XDP program is not attached to {name}")
            }
            Self::TooManyTags { name } => write!(formatter, "{name} has more than two VLAN tags"),
            Self::Neighbour => formatter.write_str("the neighbour has not answered"),
        }
    }
}

/// Links, routes, rules and neighbours, as last told.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    links: HashMap<u32, Link>,
    neighbours: HashMap<Target, Neighbour>,
    pub(super) routes: Routes,
}

impl Inventory {
    /// Takes one event in. False when it does not fit what is known: then something was missed,
    /// and everything has to be read anew.
    pub fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Link(link) => {
                let index = link.index;
                let up = link.up;
                let earlier = self.links.insert(index, link);
                // The kernel removes a downed device's IPv4 routes without telling.
                return up || earlier.is_none_or(|link| !link.up);
            }
            Event::LinkGone(index) => {
                self.links.remove(&index);
                self.neighbours.retain(|target, _| target.device != index);
                return false;
            }
            Event::Route(route, replace) => self.routes.add(route, replace),
            Event::RouteGone(route) => return self.routes.remove(&route),
            Event::Rule(rule) => self.routes.add_rule(rule),
            Event::RuleGone(rule) => self.routes.remove_rule(&rule),
            Event::Neighbour(target, neighbour) => {
                self.neighbours.insert(target, neighbour);
            }
            Event::NeighbourGone(target) => {
                self.neighbours.remove(&target);
            }
        }
        true
    }

    /// Who is next on the way, and the route's own limit of the packet size.
    ///
    /// # Errors
    /// Why the destination has no way out.
    pub fn route(
        &self,
        source: IpAddr,
        destination: IpAddr,
    ) -> Result<(Target, Option<u32>), Unresolved> {
        if destination.is_multicast() || destination.is_unspecified() {
            return Err(Unresolved::NoRoute);
        }
        let route = self.routes.find(source, destination);
        let route = route.ok_or(Unresolved::NoRoute)?;
        match route.kind {
            RouteKind::Unicast => {}
            RouteKind::Local => return Err(Unresolved::Local),
            RouteKind::Nowhere | RouteKind::Throw => return Err(Unresolved::NoRoute),
        }
        let up = |hop: &super::Hop| self.links.get(&hop.device).is_some_and(|link| link.up);
        let hop = route.hop(destination, up).ok_or(Unresolved::NoRoute)?;
        let target = Target {
            device: hop.device,
            neighbour: hop.gateway.unwrap_or(destination),
        };
        Ok((target, route.mtu))
    }

    /// The row for a target: resolved, or as much of it as is known with the reason why not.
    /// `slot` names the place of a device in the device map.
    #[must_use]
    pub fn frame(
        &self,
        target: &Target,
        mtu: Option<u32>,
        slot: impl Fn(u32) -> Option<u32>,
    ) -> (NextHop, Option<Unresolved>) {
        let mut row = UNRESOLVED;
        match self.fill(&mut row, target, mtu, slot) {
            Ok(()) => {
                row.resolved = 1;
                (row, None)
            }
            Err(why) => (row, Some(why)),
        }
    }

    fn fill(
        &self,
        row: &mut NextHop,
        target: &Target,
        mtu: Option<u32>,
        slot: impl Fn(u32) -> Option<u32>,
    ) -> Result<(), Unresolved> {
        let link = self.link_up(target.device)?;
        row.source = link
            .address
            .ok_or_else(|| unsupported(link, "addressless"))?;
        let limit = mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
        row.mtu = U16::new(u16::try_from(limit).unwrap_or(u16::MAX));

        // From the device with the IP address down to the one that frames leave by.
        let mut tags = [NO_TAG; 2];
        let mut count = 0_u8;
        let mut lower = link;
        loop {
            match &lower.kind {
                LinkKind::Ethernet => break,
                LinkKind::Unsupported(kind) => return Err(unsupported(lower, kind)),
                LinkKind::Vlan {
                    lower: index,
                    id,
                    protocol,
                } => {
                    if count == 2 {
                        let name = link.name.clone();
                        return Err(Unresolved::TooManyTags { name });
                    }
                    // The upper device's tag is the inner one.
                    let tag = VlanTag {
                        protocol: U16::new(*protocol),
                        control: U16::new(*id),
                    };
                    tags = [tag, tags[0]];
                    count += 1;
                    lower = self.link_up(*index)?;
                }
            }
        }
        row.interface = U32::new(lower.index);
        row.tags = tags;
        row.tag_count = count;
        row.device = U32::new(slot(lower.index).ok_or_else(|| Unresolved::NotOffloaded {
            name: lower.name.clone(),
        })?);
        let neighbour = self.neighbours.get(target);
        let address = neighbour.and_then(|neighbour| neighbour.address);
        row.destination = address.ok_or(Unresolved::Neighbour)?;
        Ok(())
    }

    /// The name of the device that frames of the named one leave by: its own, or that of the
    /// lowest one under a VLAN's.
    #[must_use]
    pub fn lower_device(&self, name: &str) -> Option<&str> {
        let mut link = self.links.values().find(|link| link.name == name)?;
        // Two tags at most: a third makes the next hops refuse, not this.
        for _ in 0..3 {
            match &link.kind {
                LinkKind::Vlan { lower, .. } => link = self.links.get(lower)?,
                _ => break,
            }
        }
        Some(&link.name)
    }

    fn link_up(&self, index: u32) -> Result<&Link, Unresolved> {
        let link = self.links.get(&index).filter(|link| link.up);
        link.ok_or(Unresolved::DeviceDown)
    }

    /// Whether the neighbour was entered by hand.
    pub(super) fn is_permanent(&self, target: &Target) -> bool {
        let neighbour = self.neighbours.get(target);
        neighbour.is_some_and(|neighbour| neighbour.permanent)
    }
}

const NO_TAG: VlanTag = VlanTag {
    protocol: U16::ZERO,
    control: U16::ZERO,
};

/// A row that nothing leaves by.
pub(super) const UNRESOLVED: NextHop = NextHop {
    interface: U32::ZERO,
    device: U32::ZERO,
    mtu: U16::ZERO,
    source: [0; 6],
    destination: [0; 6],
    tags: [NO_TAG; 2],
    tag_count: 0,
    resolved: 0,
};

fn unsupported(link: &Link, kind: &str) -> Unresolved {
    Unresolved::UnsupportedDevice {
        name: link.name.clone(),
        kind: kind.to_owned(),
    }
}
