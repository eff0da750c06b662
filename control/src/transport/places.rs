//! The places of connections: how many there may be at one time, and how many of them one host has.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Discard, handshakes::origin};

/// A bounded number of places for connections, those that peers open and our own. Half of them is
/// what one host, or network of IPv6, may have whom no trunk names among its addresses, and the
/// last tenth is for hosts that are named and for ourselves: whoever fills the rest keeps neither
/// from the other.
#[derive(Clone)]
pub(super) struct Places {
    limit: usize,
    free: Arc<Semaphore>,
    /// How many hosts have that no trunk names.
    origins: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place; dropping it gives it back.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

struct Share {
    places: Places,
    origin: IpAddr,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            free: Arc::new(Semaphore::new(limit)),
            origins: Arc::default(),
        }
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection that we open, or that comes from a host that a trunk names.
    pub(super) fn enter(&self) -> Option<Place> {
        Some(Place {
            _permit: Arc::clone(&self.free).try_acquire_owned().ok()?,
            _share: None,
        })
    }

    /// A place for a connection from another host.
    ///
    /// # Errors
    /// Which of the limits is reached.
    pub(super) fn enter_from(&self, source: IpAddr) -> Result<Place, Discard> {
        let origin = origin(source);
        let mut origins = self.origins();
        let held = origins.get(&origin).copied().unwrap_or_default();
        if held >= self.limit.div_ceil(2) {
            return Err(Discard::ConnectionsOfHost);
        }
        // Others take places without the lock, so that a few of the last tenth may go at worst.
        if self.free.available_permits() <= self.limit / 10 {
            return Err(Discard::Connections);
        }
        let mut place = self.enter().ok_or(Discard::Connections)?;
        origins.insert(origin, held + 1);
        place._share = Some(Share {
            places: self.clone(),
            origin,
        });
        Ok(place)
    }

    /// Ends when every place has been given back.
    pub(super) async fn all_free(&self) {
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        let _ = self.free.acquire_many(all).await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut origins = self.places.origins();
        if let Some(held) = origins.get_mut(&self.origin) {
            *held -= 1;
            if *held == 0 {
                origins.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_host_has_half_of_the_places_and_the_last_tenth_is_for_who_is_named() {
        let places = Places::new(20);
        let from = |text| places.enter_from(address(text));
        let mut held: Vec<Place> = (0..10).map(|_| from("192.0.2.1").unwrap()).collect();
        assert_eq!(from("192.0.2.1").err(), Some(Discard::ConnectionsOfHost));
        held.extend((0..8).map(|_| from("192.0.2.2").unwrap()));
        assert_eq!(from("192.0.2.3").err(), Some(Discard::Connections));
        let named: Vec<Place> = (0..2).map(|_| places.enter().unwrap()).collect();
        assert!(places.enter().is_none());
        drop(named);
        held.truncate(1);
        held.push(from("192.0.2.3").unwrap());
        drop(held);
        assert!(places.origins().is_empty());
        assert_eq!(places.free.available_permits(), 20);
    }

    #[test]
    fn a_network_of_ipv6_is_one_host() {
        let places = Places::new(4);
        let held: Vec<_> = ["2001:db8::1", "2001:db8::2"]
            .map(|text| places.enter_from(address(text)).unwrap())
            .into();
        let third = places.enter_from(address("2001:db8::3"));
        assert_eq!(third.err(), Some(Discard::ConnectionsOfHost));
        assert!(places.enter_from(address("2001:db8:0:1::1")).is_ok());
        drop::<Vec<Place>>(held);
    }
}
