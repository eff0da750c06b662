//! Netlink's messages as events of the table.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
        LinkMessage, VlanProtocol,
    },
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType, RouteVia,
    },
    rule::{RuleAction as Action, RuleAttribute, RuleFlags, RuleMessage},
};

use super::{Event, Hop, Link, LinkKind, Neighbour, Route, RouteKind, Rule, RuleAction, Target};

/// What one message means for the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Event(Event),
    /// Something changed whose consequences netlink does not tell.
    Stale,
    /// Nothing to us.
    Nothing,
}

/// `replace` is the message's `NLM_F_REPLACE`.
pub(super) fn decode(message: RouteNetlinkMessage, replace: bool) -> Decoded {
    let event = match message {
        RouteNetlinkMessage::NewLink(message) => link(message).map(Event::Link),
        RouteNetlinkMessage::DelLink(message) => Some(message.header.index)
            .filter(|_| is_link(&message))
            .map(Event::LinkGone),
        RouteNetlinkMessage::NewRoute(message) => {
            route(message).map(|route| Event::Route(route, replace))
        }
        RouteNetlinkMessage::DelRoute(message) => route(message).map(Event::RouteGone),
        RouteNetlinkMessage::NewRule(message) => rule(message).map(Event::Rule),
        RouteNetlinkMessage::DelRule(message) => rule(message).map(Event::RuleGone),
        RouteNetlinkMessage::NewNeighbour(message) => {
            neighbour(message).map(|(target, neighbour)| Event::Neighbour(target, neighbour))
        }
        RouteNetlinkMessage::DelNeighbour(message) => {
            neighbour(message).map(|(target, _)| Event::NeighbourGone(target))
        }
        // The kernel removes the routes that prefer a removed source address without telling.
        RouteNetlinkMessage::DelAddress(_) => return Decoded::Stale,
        _ => None,
    };
    event.map_or(Decoded::Nothing, Decoded::Event)
}

/// Bridges tell of their ports by link messages of their own family.
fn is_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

fn link(message: LinkMessage) -> Option<Link> {
    if !is_link(&message) {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Ethernet,
        address: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up | LinkFlags::Running),
    };
    let mut lower = None;
    let mut infos = Vec::new();
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(octets) => link.address = octets.try_into().ok(),
            LinkAttribute::Link(index) => lower = Some(index),
            LinkAttribute::LinkInfo(found) => infos = found,
            _ => {}
        }
    }
    link.kind = kind(&infos, lower);
    if message.header.link_layer_type != LinkLayerType::Ether {
        let layer = format!("{:?}", message.header.link_layer_type);
        link.kind = LinkKind::Unsupported(layer.to_lowercase());
    }
    Some(link)
}

fn kind(infos: &[LinkInfo], lower: Option<u32>) -> LinkKind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        None | Some(InfoKind::Veth) => LinkKind::Ethernet,
        Some(InfoKind::Vlan) => vlan(infos, lower),
        Some(other) => LinkKind::Unsupported(other.to_string()),
    }
}

fn vlan(infos: &[LinkInfo], lower: Option<u32>) -> LinkKind {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    });
    let mut id = None;
    let mut protocol = VlanProtocol::Ieee8021Q;
    for datum in data.into_iter().flatten() {
        match datum {
            InfoVlan::Id(found) => id = Some(*found),
            InfoVlan::Protocol(found) => protocol = *found,
            _ => {}
        }
    }
    match (id, lower) {
        (Some(id), Some(lower)) => LinkKind::Vlan {
            lower,
            id,
            protocol: u16::from(protocol),
        },
        _ => LinkKind::Unsupported("incomplete vlan".into()),
    }
}

fn route(message: RouteMessage) -> Option<Route> {
    let header = &message.header;
    // Cached routes are no routes of a table; ours carry no type of service and no source prefix.
    if header.flags.contains(RouteFlags::Cloned)
        || header.tos != 0
        || header.source_prefix_length != 0
    {
        return None;
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0_u8; 4]),
        AddressFamily::Inet6 => IpAddr::from([0_u8; 16]),
        _ => return None,
    };
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Throw => RouteKind::Throw,
        _ => RouteKind::Nowhere,
    };
    let mut route = Route {
        table: u32::from(header.table),
        destination: IpNet::new(unspecified, header.destination_prefix_length).ok()?,
        metric: 0,
        kind,
        hops: Vec::new(),
        mtu: None,
    };
    let (mut device, mut gateway) = (None, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Table(table) => route.table = table,
            RouteAttribute::Priority(metric) => route.metric = metric,
            RouteAttribute::Destination(address) => {
                let length = message.header.destination_prefix_length;
                route.destination = IpNet::new(ip(&address)?, length).ok()?;
            }
            RouteAttribute::Oif(index) => device = Some(index),
            RouteAttribute::Gateway(address) => gateway = ip(&address),
            RouteAttribute::Via(address) => gateway = via(&address),
            // Tunnelled or labelled: no plain frame leaves by it.
            RouteAttribute::Encap(_) => route.kind = RouteKind::Nowhere,
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(hops) => {
                route.hops.extend(hops.iter().map(|hop| Hop {
                    device: hop.interface_index,
                    gateway: hop.attributes.iter().find_map(|attribute| match attribute {
                        RouteAttribute::Gateway(address) => ip(address),
                        RouteAttribute::Via(address) => via(address),
                        _ => None,
                    }),
                }));
            }
            _ => {}
        }
    }
    route
        .hops
        .extend(device.map(|device| Hop { device, gateway }));
    if route.kind != RouteKind::Unicast {
        // What loopback device the kernel names for these differs between its messages.
        route.hops.clear();
    }
    Some(route)
}

fn rule(message: RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let ipv4 = match header.family {
        AddressFamily::Inet => true,
        AddressFamily::Inet6 => false,
        _ => return None,
    };
    if header.flags.contains(RuleFlags::Invert) || header.tos != 0 {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut rule = Rule {
        ipv4,
        priority: 0,
        source: None,
        destination: None,
        action: RuleAction::Nowhere,
    };
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = priority,
            RuleAttribute::Table(number) => table = number,
            RuleAttribute::Source(address) => {
                rule.source = Some(IpNet::new(address, header.src_len).ok()?);
            }
            RuleAttribute::Destination(address) => {
                rule.destination = Some(IpNet::new(address, header.dst_len).ok()?);
            }
            RuleAttribute::FwMark(0)
            | RuleAttribute::FwMask(_)
            | RuleAttribute::Protocol(_)
            | RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX)
            | RuleAttribute::Realm(_)
            | RuleAttribute::Other(_) => {}
            // It asks for something that packets of ours do not have, or does not say of itself.
            _ => return None,
        }
    }
    rule.action = match header.action {
        Action::ToTable => RuleAction::Table(table),
        Action::Blackhole | Action::Unreachable | Action::Prohibit => RuleAction::Nowhere,
        _ => return None,
    };
    Some(rule)
}

fn neighbour(message: NeighbourMessage) -> Option<(Target, Neighbour)> {
    let header = &message.header;
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    let mut hardware: Option<[u8; 6]> = None;
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some(IpAddr::V4(found));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some(IpAddr::V6(found));
            }
            NeighbourAttribute::LinkLayerAddress(octets) => hardware = octets.try_into().ok(),
            _ => {}
        }
    }
    let usable = matches!(
        header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let target = Target {
        device: header.ifindex,
        neighbour: address?,
    };
    let neighbour = Neighbour {
        address: hardware.filter(|_| usable),
        permanent: matches!(
            header.state,
            NeighbourState::Permanent | NeighbourState::Noarp
        ),
    };
    Some((target, neighbour))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn via(address: &RouteVia) -> Option<IpAddr> {
    match address {
        RouteVia::Inet(address) => Some(IpAddr::V4(*address)),
        RouteVia::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::{
        link::LinkHeader,
        neighbour::NeighbourHeader,
        route::{RouteHeader, RouteNextHop},
        rule::RuleHeader,
    };

    use super::*;

    fn ethernet(index: u32, infos: Vec<LinkInfo>, lower: Option<u32>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header = LinkHeader {
            index,
            link_layer_type: LinkLayerType::Ether,
            flags: LinkFlags::Up | LinkFlags::Running | LinkFlags::Broadcast,
            ..Default::default()
        };
        message.attributes = vec![
            LinkAttribute::IfName("eth0".into()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::LinkInfo(infos),
        ];
        message.attributes.extend(lower.map(LinkAttribute::Link));
        message
    }

    fn decoded_kind(infos: Vec<LinkInfo>, lower: Option<u32>) -> LinkKind {
        let message = RouteNetlinkMessage::NewLink(ethernet(7, infos, lower));
        match decode(message, false) {
            Decoded::Event(Event::Link(link)) => {
                assert_eq!((link.index, link.mtu, link.up), (7, 1500, true));
                link.kind
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kinds_of_links_are_told_apart() {
        let vlan = |protocol| {
            vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![
                    InfoVlan::Id(42),
                    InfoVlan::Protocol(protocol),
                ])),
            ]
        };
        assert_eq!(decoded_kind(vec![], None), LinkKind::Ethernet);
        // A veth names its peer as its link.
        assert_eq!(
            decoded_kind(vec![LinkInfo::Kind(InfoKind::Veth)], Some(3)),
            LinkKind::Ethernet
        );
        for (protocol, ether_type) in [
            (VlanProtocol::Ieee8021Q, 0x8100),
            (VlanProtocol::Ieee8021Ad, 0x88a8),
        ] {
            assert_eq!(
                decoded_kind(vlan(protocol), Some(3)),
                LinkKind::Vlan {
                    lower: 3,
                    id: 42,
                    protocol: ether_type
                }
            );
        }
        for (infos, name) in [
            (vec![LinkInfo::Kind(InfoKind::Vlan)], "incomplete vlan"),
            (vec![LinkInfo::Kind(InfoKind::Bond)], "bond"),
            (vec![LinkInfo::Kind(InfoKind::Other("what".into()))], "what"),
        ] {
            assert_eq!(
                decoded_kind(infos, Some(3)),
                LinkKind::Unsupported(name.into())
            );
        }
    }

    #[test]
    fn a_route_keeps_table_metric_hops_and_limit() {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            destination_prefix_length: 8,
            table: 254,
            kind: RouteType::Unicast,
            ..Default::default()
        };
        let mut hop = RouteNextHop::default();
        hop.interface_index = 4;
        hop.attributes = vec![RouteAttribute::Via(RouteVia::Inet6(
            "fe80::1".parse().unwrap(),
        ))];
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet([10, 0, 0, 0].into())),
            RouteAttribute::Table(1000),
            RouteAttribute::Priority(77),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]),
            RouteAttribute::MultiPath(vec![hop]),
        ];
        let expected = Route {
            table: 1000,
            destination: "10.0.0.0/8".parse().unwrap(),
            metric: 77,
            kind: RouteKind::Unicast,
            hops: vec![Hop {
                device: 4,
                gateway: Some("fe80::1".parse().unwrap()),
            }],
            mtu: Some(1400),
        };
        assert_eq!(
            decode(RouteNetlinkMessage::NewRoute(message.clone()), true),
            Decoded::Event(Event::Route(expected.clone(), true))
        );
        message.header.flags = RouteFlags::Cloned;
        assert_eq!(
            decode(RouteNetlinkMessage::NewRoute(message), false),
            Decoded::Nothing
        );
    }

    #[test]
    fn rules_that_cannot_match_are_left_out() {
        let mut message = RuleMessage::default();
        message.header = RuleHeader {
            family: AddressFamily::Inet,
            table: 7,
            src_len: 24,
            action: Action::ToTable,
            ..Default::default()
        };
        message.attributes = vec![
            RuleAttribute::Priority(100),
            RuleAttribute::Source([198, 51, 100, 0].into()),
            RuleAttribute::SuppressPrefixLen(u32::MAX),
        ];
        let rule = Rule {
            ipv4: true,
            priority: 100,
            source: Some("198.51.100.0/24".parse().unwrap()),
            destination: None,
            action: RuleAction::Table(7),
        };
        assert_eq!(
            decode(RouteNetlinkMessage::NewRule(message.clone()), false),
            Decoded::Event(Event::Rule(rule))
        );
        message.attributes.push(RuleAttribute::FwMark(1));
        assert_eq!(
            decode(RouteNetlinkMessage::NewRule(message), false),
            Decoded::Nothing
        );
    }

    #[test]
    fn a_neighbour_is_usable_until_it_failed() {
        for (state, usable) in [
            (NeighbourState::Reachable, true),
            (NeighbourState::Stale, true),
            (NeighbourState::Permanent, true),
            (NeighbourState::Incomplete, false),
            (NeighbourState::Failed, false),
        ] {
            let mut message = NeighbourMessage::default();
            message.header = NeighbourHeader {
                family: AddressFamily::Inet,
                ifindex: 3,
                state,
                ..Default::default()
            };
            message.attributes = vec![
                NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 1].into())),
                NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 9]),
            ];
            let Decoded::Event(Event::Neighbour(target, neighbour)) =
                decode(RouteNetlinkMessage::NewNeighbour(message), false)
            else {
                panic!("{state}");
            };
            assert_eq!(target.device, 3);
            assert_eq!(neighbour.address, usable.then_some([2, 0, 0, 0, 0, 9]));
            assert_eq!(neighbour.permanent, state == NeighbourState::Permanent);
        }
    }
}
