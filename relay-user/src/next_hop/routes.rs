//! Routes and the rules that choose between their tables.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
};

use ipnet::IpNet;

/// One route of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub table: u32,
    pub destination: IpNet,
    /// The lower one is preferred among routes to the same prefix.
    pub metric: u32,
    pub kind: RouteKind,
    /// More than one for a multipath route; none unless the kind is unicast.
    pub hops: Vec<Hop>,
    /// The largest IP packet in octets, where the route limits it.
    pub mtu: Option<u32>,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    /// To this machine itself.
    Local,
    /// Blackhole, unreachable, prohibited, broadcast, multicast, encapsulated: nowhere for a frame
    /// of ours.
    Nowhere,
    /// Look in the next table.
    Throw,
}

/// One way of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The kernel's index of the device.
    pub device: u32,
    /// `None` where the destination is on the link itself.
    pub gateway: Option<IpAddr>,
}

/// One policy rule (`ip rule`) of those that can match what we send: rules that ask for a mark,
/// an input interface, a user or a protocol are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub ipv4: bool,
    pub priority: u32,
    pub source: Option<IpNet>,
    pub destination: Option<IpNet>,
    pub action: RuleAction,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    Table(u32),
    /// Blackhole, unreachable, prohibited.
    Nowhere,
}

/// The kernel's numbers of the three tables that every machine has.
const LOCAL: u32 = 255;
const MAIN: u32 = 254;
const DEFAULT: u32 = 253;

/// Every route and rule of the machine. A look-up costs one probe for each prefix length that is
/// in use, however many routes there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    routes: HashMap<(u32, IpNet), Vec<Route>>,
    /// How many prefixes there are of each length: (table, IPv4, length).
    lengths: BTreeMap<(u32, bool, u8), usize>,
    rules: Vec<Rule>,
}

impl Routes {
    /// Adds a route; `replace` says that it takes the place of those with its prefix and metric.
    pub(super) fn add(&mut self, route: Route, replace: bool) {
        let destination = route.destination.trunc();
        let known = self.routes.entry((route.table, destination)).or_default();
        if known.is_empty() {
            *self
                .lengths
                .entry(length_key(route.table, &destination))
                .or_default() += 1;
        }
        if replace {
            known.retain(|other| other.metric != route.metric);
        }
        if !known.contains(&route) {
            let at = known.partition_point(|other| other.metric <= route.metric);
            known.insert(at, route);
        }
    }

    /// Says whether the route was known; if not, what is known here is no longer the truth.
    pub(super) fn remove(&mut self, route: &Route) -> bool {
        let destination = route.destination.trunc();
        let Some(known) = self.routes.get_mut(&(route.table, destination)) else {
            return false;
        };
        let Some(at) = known.iter().position(|other| other == route) else {
            return false;
        };
        known.remove(at);
        if known.is_empty() {
            self.routes.remove(&(route.table, destination));
            let key = length_key(route.table, &destination);
            if let Some(count) = self.lengths.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&key);
                }
            }
        }
        true
    }

    pub(super) fn add_rule(&mut self, rule: Rule) {
        if !self.rules.contains(&rule) {
            let at = self
                .rules
                .partition_point(|other| other.priority <= rule.priority);
            self.rules.insert(at, rule);
        }
    }

    pub(super) fn remove_rule(&mut self, rule: &Rule) {
        self.rules.retain(|other| other != rule);
    }

    /// The route that the kernel would take for a packet that we send.
    pub(super) fn find(&self, source: IpAddr, destination: IpAddr) -> Option<&Route> {
        let ipv4 = destination.is_ipv4();
        let mut ruled = false;
        for rule in self.rules.iter().filter(|rule| rule.ipv4 == ipv4) {
            ruled = true;
            let matches = rule.source.is_none_or(|range| range.contains(&source))
                && rule
                    .destination
                    .is_none_or(|range| range.contains(&destination));
            if !matches {
                continue;
            }
            match rule.action {
                RuleAction::Nowhere => return None,
                RuleAction::Table(table) => match self.longest(table, destination) {
                    Some(route) if route.kind != RouteKind::Throw => return Some(route),
                    _ => {}
                },
            }
        }
        if ruled {
            return None;
        }
        // A kernel without policy routing has these three and no rules to read.
        [LOCAL, MAIN, DEFAULT]
            .into_iter()
            .filter_map(|table| self.longest(table, destination))
            .find(|route| route.kind != RouteKind::Throw)
    }

    fn longest(&self, table: u32, destination: IpAddr) -> Option<&Route> {
        let ipv4 = destination.is_ipv4();
        let lengths = self
            .lengths
            .range((table, ipv4, 0)..=(table, ipv4, u8::MAX))
            .rev();
        lengths
            .filter_map(|((_, _, length), _)| IpNet::new(destination, *length).ok())
            .find_map(|prefix| self.routes.get(&(table, prefix.trunc()))?.first())
    }
}

impl Route {
    /// The way that a destination takes: always the same one of several, spread over them.
    pub(super) fn hop(&self, destination: IpAddr, usable: impl Fn(&Hop) -> bool) -> Option<&Hop> {
        let candidates: Vec<&Hop> = self.hops.iter().filter(|hop| usable(hop)).collect();
        if candidates.is_empty() {
            return self.hops.first();
        }
        let mut hasher = DefaultHasher::new();
        destination.hash(&mut hasher);
        candidates
            .get(hasher.finish() as usize % candidates.len())
            .copied()
    }
}

fn length_key(table: u32, prefix: &IpNet) -> (u32, bool, u8) {
    (table, matches!(prefix, IpNet::V4(_)), prefix.prefix_len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(table: u32, destination: &str, metric: u32, device: u32) -> Route {
        Route {
            table,
            destination: destination.parse().unwrap(),
            metric,
            kind: RouteKind::Unicast,
            hops: vec![Hop {
                device,
                gateway: None,
            }],
            mtu: None,
        }
    }

    fn device(routes: &Routes, source: &str, destination: &str) -> Option<u32> {
        let found = routes.find(source.parse().unwrap(), destination.parse().unwrap())?;
        found.hops.first().map(|hop| hop.device)
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let mut routes = Routes::default();
        routes.add(route(MAIN, "0.0.0.0/0", 100, 1), false);
        routes.add(route(MAIN, "10.0.0.0/8", 50, 2), false);
        routes.add(route(MAIN, "10.1.0.0/16", 200, 3), false);
        routes.add(route(MAIN, "10.1.0.0/16", 20, 4), false);
        routes.add(route(MAIN, "::/0", 1024, 5), false);
        assert_eq!(device(&routes, "10.9.9.9", "8.8.8.8"), Some(1));
        assert_eq!(device(&routes, "10.9.9.9", "10.2.0.1"), Some(2));
        assert_eq!(device(&routes, "10.9.9.9", "10.1.0.1"), Some(4));
        assert_eq!(device(&routes, "2001:db8::9", "2001:db8::1"), Some(5));

        assert!(routes.remove(&route(MAIN, "10.1.0.0/16", 20, 4)));
        assert_eq!(device(&routes, "10.9.9.9", "10.1.0.1"), Some(3));
        assert!(routes.remove(&route(MAIN, "10.1.0.0/16", 200, 3)));
        assert_eq!(device(&routes, "10.9.9.9", "10.1.0.1"), Some(2));
        assert!(!routes.remove(&route(MAIN, "10.1.0.0/16", 200, 3)));
    }

    #[test]
    fn a_replaced_route_leaves_nothing_behind() {
        let mut routes = Routes::default();
        routes.add(route(MAIN, "0.0.0.0/0", 100, 1), false);
        routes.add(route(MAIN, "0.0.0.0/0", 200, 2), false);
        routes.add(route(MAIN, "0.0.0.0/0", 100, 3), true);
        assert_eq!(device(&routes, "10.9.9.9", "8.8.8.8"), Some(3));
        assert!(!routes.remove(&route(MAIN, "0.0.0.0/0", 100, 1)));
    }

    #[test]
    fn rules_choose_the_table_by_source() {
        let mut routes = Routes::default();
        let rule = |priority, source: Option<&str>, action| Rule {
            ipv4: true,
            priority,
            source: source.map(|range| range.parse().unwrap()),
            destination: None,
            action,
        };
        routes.add_rule(rule(32766, None, RuleAction::Table(MAIN)));
        routes.add_rule(rule(0, None, RuleAction::Table(LOCAL)));
        routes.add_rule(rule(100, Some("198.51.100.0/24"), RuleAction::Table(7)));
        routes.add(route(MAIN, "0.0.0.0/0", 0, 1), false);
        routes.add(route(7, "0.0.0.0/0", 0, 2), false);
        assert_eq!(device(&routes, "192.0.2.1", "8.8.8.8"), Some(1));
        assert_eq!(device(&routes, "198.51.100.1", "8.8.8.8"), Some(2));

        // A table that says throw hands on to the next rule.
        let thrown = Route {
            kind: RouteKind::Throw,
            hops: vec![],
            ..route(7, "8.0.0.0/8", 0, 0)
        };
        routes.add(thrown, false);
        assert_eq!(device(&routes, "198.51.100.1", "8.8.8.8"), Some(1));

        routes.add_rule(rule(50, Some("198.51.100.1/32"), RuleAction::Nowhere));
        assert_eq!(device(&routes, "198.51.100.1", "8.8.8.8"), None);
    }

    #[test]
    fn a_destination_keeps_its_way_and_leaves_one_that_is_down() {
        let mut multipath = route(MAIN, "0.0.0.0/0", 0, 1);
        multipath.hops.push(Hop {
            device: 2,
            gateway: None,
        });
        let taken: Vec<u32> = (0..64)
            .map(|last| {
                let destination = IpAddr::from([10, 0, 0, last]);
                let hop = multipath.hop(destination, |_| true).unwrap();
                assert_eq!(Some(hop), multipath.hop(destination, |_| true));
                hop.device
            })
            .collect();
        assert!(taken.contains(&1) && taken.contains(&2));
        let only = multipath.hop(IpAddr::from([10, 0, 0, 1]), |hop| hop.device == 2);
        assert_eq!(only.unwrap().device, 2);
    }

    proptest! {
        /// Against the plainest search there is.
        #[test]
        fn agrees_with_a_linear_search(
            prefixes in prop::collection::vec((any::<u32>(), 0_u8..=32, 0_u32..3), 1..40),
            removed in prop::collection::vec(any::<bool>(), 40),
            destination in any::<u32>(),
            near in any::<prop::sample::Index>(),
        ) {
            let mut routes = Routes::default();
            let mut plain: Vec<Route> = Vec::new();
            for (device, (bits, length, metric)) in prefixes.iter().enumerate() {
                let prefix = IpNet::new(IpAddr::from(bits.to_be_bytes()), *length).unwrap().trunc();
                let one = route(MAIN, &prefix.to_string(), *metric, device as u32);
                routes.add(one.clone(), true);
                plain.retain(|other| (other.destination, other.metric) != (prefix, *metric));
                plain.push(one);
            }
            let mut index = 0;
            plain.retain(|one| {
                index += 1;
                !removed[index - 1] || { assert!(routes.remove(one)); false }
            });
            let close = prefixes[near.index(prefixes.len())].0 ^ (destination & 0xff);
            for bits in [destination, close] {
                let address = IpAddr::from(bits.to_be_bytes());
                let expected = plain
                    .iter()
                    .filter(|one| one.destination.contains(&address))
                    .min_by_key(|one| (255 - one.destination.prefix_len(), one.metric));
                prop_assert_eq!(routes.find(IpAddr::from([0, 0, 0, 0]), address), expected);
            }
        }
    }
}
