//! Damage in batches, and that every one of them is counted.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use etherparse::PacketBuilder;
use rand::{SeedableRng, rngs::StdRng};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    Counts,
    counts::{Place, stale_place},
};
use crate::{
    lab::{Party, wait_until},
    scene::{LIMIT, Scene},
};

/// One kind of damage.
#[derive(Clone, Copy)]
pub struct Attack {
    pub name: &'static str,
    /// The counters that may grow by it, as place and reason; `*` is any reason.
    pub counted: &'static [(&'static str, &'static str)],
    /// Sends some and says how many discards that makes.
    pub(super) batch: fn(&Bench<'_>) -> u64,
}

/// The ways that damage takes.
pub struct Bench<'s> {
    pub scene: &'s Scene,
    pub(super) random: RefCell<StdRng>,
    raw: [Socket; 3],
    pub(super) flows: Vec<Flow>,
}

/// One leg's media as the daemon has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub party: Party,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// Whether the kernel relays what comes here.
    pub kernel: bool,
}

impl<'s> Bench<'s> {
    /// # Panics
    /// When the flows are not all learned, or a socket is refused.
    #[must_use]
    pub fn new(scene: &'s Scene) -> Self {
        let raw = Party::ALL.map(|party| {
            let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)));
            let entered = scene.lab.peer(party).enter(open);
            entered.expect("a namespace").expect("a raw socket")
        });
        let mut bench = Self {
            scene,
            random: RefCell::new(StdRng::seed_from_u64(11)),
            raw,
            flows: Vec::new(),
        };
        let listed = scene.daemon.ask(&["flows"]).expect("flows");
        for flow in listed.as_array().expect("a list") {
            let address = |name: &str| -> SocketAddr {
                let text = flow[name].as_str().expect("an address");
                text.parse().expect("an address")
            };
            let peer = address("peer");
            let is_of = |party: &Party| party.ipv4(crate::lab::Side::Peer) == peer.ip();
            bench.flows.push(Flow {
                party: Party::ALL.into_iter().find(is_of).expect("a party"),
                local: address("local"),
                peer,
                kernel: flow["path"] == "xdp",
            });
        }
        assert_eq!(bench.flows.len(), 4, "{:?}", bench.flows);
        bench
    }

    /// Where a party has its media in the call of one path.
    ///
    /// # Panics
    /// When there is no such call.
    #[must_use]
    pub fn media_of(&self, party: Party, kernel: bool) -> SocketAddr {
        let is_it = |flow: &&Flow| flow.party == party && flow.kernel == kernel;
        self.flows.iter().find(is_it).expect("a flow").peer
    }

    /// Sends a datagram in a party's network with whatever source.
    pub(super) fn inject(&self, party: Party, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else {
            panic!("IPv4 alone is injected");
        };
        let builder = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
            .udp(from.port(), to.port());
        let mut packet = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut packet, payload).expect("a packet");
        self.raw[party as usize]
            .send_to(&packet, &SocketAddr::V4(to).into())
            .expect("sent");
    }

    fn counts(&self) -> Counts {
        Counts::read(&self.scene.daemon, &self.scene.lab).expect("metrics")
    }

    /// Does an attack once or, with a `share` of the time, again and again for so long or `most`
    /// batches. After each batch every discard of it must have been counted, where it may be, and
    /// nothing else. Gives how many there were.
    ///
    /// # Panics
    /// When the counts are others.
    pub fn attack(
        &self,
        attack: &Attack,
        share: Duration,
        most: usize,
        background: &[(&str, &str)],
    ) -> u64 {
        let listed = |list: &[(&str, &str)], place: &str, reason: &str| {
            list.iter()
                .any(|(known, why)| *known == place && (*why == "*" || *why == reason))
        };
        let began = Instant::now();
        let mut all = 0;
        let first = self.counts();
        for batch in 0..most {
            if batch > 0 && began.elapsed() >= share {
                break;
            }
            all += (attack.batch)(self);
            let mut grown = Default::default();
            let stale = |grown: &BTreeMap<Place, u64>| -> u64 {
                grown.get(&stale_place()).copied().unwrap_or_default()
            };
            let counted = |grown: &BTreeMap<Place, u64>| -> u64 {
                grown
                    .iter()
                    .filter(|((place, reason), _)| listed(attack.counted, place, reason))
                    .map(|(_, growth)| growth)
                    .sum()
            };
            wait_until(LIMIT, || {
                grown = self.counts().since(&first);
                counted(&grown) + stale(&grown) >= all
            });
            // What was too old when a worker came to it is of the attack, or of a call.
            let known = counted(&grown)..=counted(&grown) + stale(&grown);
            assert!(known.contains(&all), "{}: {all} of {grown:?}", attack.name);
            let other = grown.iter().find(|(it, _)| {
                let (place, reason) = it;
                !listed(attack.counted, place, reason)
                    && !listed(background, place, reason)
                    && **it != stale_place()
            });
            assert_eq!(other, None, "{}: {grown:?}", attack.name);
        }
        assert!(all > 0, "{}: nothing was sent", attack.name);
        eprintln!(
            "{}: {all} sent, {all} counted, {} octets resident",
            attack.name,
            self.scene.daemon.resident().expect("its memory")
        );
        all
    }
}
