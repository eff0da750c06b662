//! The places of connections that peers have opened and not yet sent a message over.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A bounded number of places. When they are all taken, who comes gets the place of the one that
/// has waited longest among those from where most come; a real peer needs its place for no longer
/// than a handshake takes. One host, or network of IPv6, has at most half of the places.
#[derive(Clone)]
pub(super) struct Handshakes(Arc<Mutex<Places>>);

struct Places {
    limit: usize,
    next: u64,
    held: usize,
    /// By origin; the oldest of each comes first.
    origins: HashMap<IpAddr, BTreeMap<u64, Arc<Notify>>>,
}

/// A place; dropping it gives it back.
pub(super) struct Place {
    handshakes: Handshakes,
    origin: IpAddr,
    number: u64,
    lost: Arc<Notify>,
}

impl Handshakes {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Places {
            limit,
            next: 0,
            held: 0,
            origins: HashMap::new(),
        })))
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from there.
    pub(super) fn enter(&self, source: IpAddr) -> Place {
        let origin = origin(source);
        let lost = Arc::new(Notify::new());
        let mut places = self.places();
        let share = places.limit.div_ceil(2);
        if places
            .origins
            .get(&origin)
            .is_some_and(|of| of.len() >= share)
        {
            places.evict(origin);
        } else if places.held >= places.limit {
            let most = places.origins.iter().max_by_key(|(_, of)| {
                let oldest = of.keys().next().copied();
                (of.len(), std::cmp::Reverse(oldest))
            });
            if let Some(origin) = most.map(|(origin, _)| *origin) {
                places.evict(origin);
            }
        }
        let number = places.next;
        places.next += 1;
        places.held += 1;
        let of = places.origins.entry(origin).or_default();
        of.insert(number, Arc::clone(&lost));
        drop(places);
        Place {
            handshakes: self.clone(),
            origin,
            number,
            lost,
        }
    }
}

impl Places {
    /// Takes the oldest place of an origin away.
    fn evict(&mut self, origin: IpAddr) {
        let oldest = self.origins.get(&origin).and_then(|of| of.keys().next());
        if let Some(oldest) = oldest.copied()
            && let Some(lost) = self.remove(origin, oldest)
        {
            lost.notify_one();
        }
    }

    fn remove(&mut self, origin: IpAddr, number: u64) -> Option<Arc<Notify>> {
        let of = self.origins.get_mut(&origin)?;
        let lost = of.remove(&number)?;
        if of.is_empty() {
            self.origins.remove(&origin);
        }
        self.held -= 1;
        Some(lost)
    }
}

impl Place {
    /// Ends when the place has gone to somebody else.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.places().remove(self.origin, self.number);
    }
}

/// What counts as one: a host has a whole /64 of IPv6 to itself.
pub(super) fn origin(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_lost(place: &Place) -> bool {
        use std::{
            future::Future,
            pin::pin,
            task::{Context, Waker},
        };
        let lost = pin!(place.lost());
        lost.poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn the_oldest_of_those_who_hold_most_makes_room() {
        let handshakes = Handshakes::new(4);
        let address = |text: &str| text.parse().unwrap();
        let flood: Vec<Place> = (0..3)
            .map(|_| handshakes.enter(address("192.0.2.1")))
            .collect();
        assert!(is_lost(&flood[0]), "half of the places are one host's");
        let peer = handshakes.enter(address("192.0.2.2"));
        let other = handshakes.enter(address("192.0.2.3"));
        assert!(!is_lost(&flood[1]));
        let late = handshakes.enter(address("192.0.2.4"));
        assert!(is_lost(&flood[1]) && !is_lost(&flood[2]));
        assert!(!is_lost(&peer) && !is_lost(&other));
        // One from each: the oldest of all goes.
        let last = handshakes.enter(address("192.0.2.5"));
        assert!(is_lost(&flood[2]) && !is_lost(&peer));
        drop((peer, other, late, last, flood));
        let places = handshakes.places();
        assert_eq!((places.held, places.origins.len()), (0, 0));
    }

    #[test]
    fn a_network_of_ipv6_is_one_host() {
        let handshakes = Handshakes::new(2);
        let one = handshakes.enter("2001:db8::1".parse().unwrap());
        let other = handshakes.enter("2001:db8:0:1::1".parse().unwrap());
        let _again = handshakes.enter("2001:db8::2".parse().unwrap());
        assert!(is_lost(&one) && !is_lost(&other));
    }
}
