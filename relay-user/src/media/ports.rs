//! The media ports of every local address: pairs of an even port for RTP and the next for RTCP
//! (RFC 3550, section 11).

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use rand::seq::SliceRandom as _;

use super::{Family, MediaError, MediaPort, PortUse};

/// One `[[interface]]` of the configuration: a device's name and the media addresses on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaInterface {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

/// Which pairs are free, for each address. Taking and giving back cost the same however many are
/// taken. The pair that was given back longest ago is taken first, so that a late packet of an
/// ended call does not meet a new one; at first they come in random order, which spreads them
/// over the workers and keeps the next one from being guessed.
#[derive(Debug)]
pub(crate) struct Ports {
    first: u16,
    pairs: usize,
    interfaces: HashMap<String, Vec<IpAddr>>,
    pools: HashMap<IpAddr, Pool>,
    taken: usize,
}

#[derive(Debug)]
struct Pool {
    /// The free pairs, by their number in the range.
    free: VecDeque<u16>,
    /// One bit for each pair, set while it is taken.
    taken: Vec<u64>,
}

impl Ports {
    pub(crate) fn new(interfaces: &[MediaInterface], range: &RangeInclusive<u16>) -> Self {
        // Up to 65536, where no pair begins: hence the wider type.
        let first = u32::from(*range.start()).next_multiple_of(2);
        let end = u32::from(*range.end()) + 1;
        let pairs = (end.saturating_sub(first) / 2) as usize;
        let mut pools = HashMap::new();
        for address in interfaces.iter().flat_map(|known| &known.addresses) {
            pools
                .entry(*address)
                .or_insert_with(|| Pool::new(pairs as u16));
        }
        Self {
            first: first as u16,
            pairs,
            interfaces: interfaces
                .iter()
                .map(|known| (known.name.clone(), known.addresses.clone()))
                .collect(),
            pools,
            taken: 0,
        }
    }

    pub(crate) fn reserve(
        &mut self,
        interface: &str,
        family: Family,
    ) -> Result<MediaPort, MediaError> {
        let addresses = self.interfaces.get(interface).into_iter().flatten();
        let mut known = false;
        for address in addresses.filter(|address| family.holds(address)) {
            known = true;
            if let Some(pair) = self.pools.get_mut(address).and_then(Pool::take) {
                self.taken += 1;
                let port = self.first + 2 * pair;
                return Ok(MediaPort {
                    rtp: SocketAddr::new(*address, port),
                });
            }
        }
        let interface = interface.to_owned();
        Err(match known {
            true => MediaError::PortsExhausted { interface },
            false => MediaError::NoAddress { interface },
        })
    }

    pub(crate) fn reserve_at(&mut self, address: IpAddr) -> Result<MediaPort, MediaError> {
        let interface = self
            .interfaces
            .iter()
            .find(|(_, addresses)| addresses.contains(&address))
            .map_or_else(|| address.to_string(), |(name, _)| name.clone());
        let Some(pool) = self.pools.get_mut(&address) else {
            return Err(MediaError::NoAddress { interface });
        };
        let pair = pool
            .take()
            .ok_or(MediaError::PortsExhausted { interface })?;
        self.taken += 1;
        Ok(MediaPort {
            rtp: SocketAddr::new(address, self.first + 2 * pair),
        })
    }

    /// Gives a pair back; says whether it was taken.
    pub(crate) fn release(&mut self, port: MediaPort) -> bool {
        let Some(offset) = port.rtp.port().checked_sub(self.first) else {
            return false;
        };
        let pool = self.pools.get_mut(&port.rtp.ip());
        let given = offset % 2 == 0 && pool.is_some_and(|pool| pool.give(offset / 2));
        self.taken -= usize::from(given);
        given
    }

    /// Whether the pair is one of ours and taken.
    pub(crate) fn is_taken(&self, port: MediaPort) -> bool {
        let Some(offset) = port.rtp.port().checked_sub(self.first) else {
            return false;
        };
        let pool = self.pools.get(&port.rtp.ip());
        offset % 2 == 0 && pool.is_some_and(|pool| pool.is_taken(offset / 2))
    }

    /// The pairs of each interface, over all its addresses.
    pub(crate) fn uses(&self) -> Vec<PortUse> {
        let mut uses: Vec<PortUse> = self
            .interfaces
            .iter()
            .map(|(interface, addresses)| {
                let pools = addresses.iter().filter_map(|one| self.pools.get(one));
                let count = |pairs: usize| u32::try_from(pairs).unwrap_or(u32::MAX);
                PortUse {
                    interface: interface.clone(),
                    used: count(pools.map(|pool| self.pairs - pool.free.len()).sum()),
                    total: count(self.pairs * addresses.len()),
                }
            })
            .collect();
        uses.sort_unstable_by(|one, other| one.interface.cmp(&other.interface));
        uses
    }

    /// How many pairs are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// How many pairs there are.
    pub(crate) fn total(&self) -> usize {
        self.pairs * self.pools.len()
    }
}

impl Pool {
    fn new(pairs: u16) -> Self {
        let mut free: Vec<u16> = (0..pairs).collect();
        free.shuffle(&mut rand::rng());
        Self {
            free: free.into(),
            taken: vec![0; usize::from(pairs).div_ceil(64)],
        }
    }

    fn take(&mut self) -> Option<u16> {
        let pair = self.free.pop_front()?;
        if let Some(word) = self.taken.get_mut(usize::from(pair / 64)) {
            *word |= 1 << (pair % 64);
        }
        Some(pair)
    }

    fn give(&mut self, pair: u16) -> bool {
        let Some(word) = self.taken.get_mut(usize::from(pair / 64)) else {
            return false;
        };
        let bit = 1 << (pair % 64);
        let taken = *word & bit != 0;
        if taken {
            *word &= !bit;
            self.free.push_back(pair);
        }
        taken
    }

    fn is_taken(&self, pair: u16) -> bool {
        let word = self.taken.get(usize::from(pair / 64));
        word.is_some_and(|word| word & (1 << (pair % 64)) != 0)
    }
}

impl Family {
    pub(crate) const fn holds(self, address: &IpAddr) -> bool {
        matches!(
            (self, address),
            (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_))
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn carrier() -> MediaInterface {
        MediaInterface {
            name: "carrier0".into(),
            addresses: vec![
                "198.51.100.1".parse().unwrap(),
                "2001:db8:1::1".parse().unwrap(),
            ],
        }
    }

    #[test]
    fn pairs_are_even_distinct_and_inside_the_range() {
        let mut ports = Ports::new(&[carrier()], &(20001..=20010));
        assert_eq!(ports.total(), 8);
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let port = ports.reserve("carrier0", Family::V4).unwrap();
            assert_eq!(port.rtp.ip(), carrier().addresses[0]);
            assert_eq!(port.rtp.port() % 2, 0);
            assert!((20002..=20008).contains(&port.rtp.port()));
            assert!(port.rtcp().port() <= 20010);
            assert!(ports.is_taken(port));
            assert!(seen.insert(port));
        }
        assert_eq!(
            ports.reserve("carrier0", Family::V4),
            Err(MediaError::PortsExhausted {
                interface: "carrier0".into()
            })
        );
        assert_eq!(ports.taken(), 4);
        ports.reserve("carrier0", Family::V6).unwrap();
    }

    #[test]
    fn an_unknown_interface_or_family_has_no_address() {
        let mut only = carrier();
        only.addresses.truncate(1);
        let mut ports = Ports::new(&[only], &(20000..=20009));
        for (interface, family) in [("carrier0", Family::V6), ("carrier1", Family::V4)] {
            assert_eq!(
                ports.reserve(interface, family),
                Err(MediaError::NoAddress {
                    interface: interface.into()
                })
            );
        }
    }

    #[test]
    fn a_second_address_is_used_when_the_first_is_exhausted() {
        let mut two = carrier();
        two.addresses = vec![
            "198.51.100.1".parse().unwrap(),
            "198.51.100.9".parse().unwrap(),
        ];
        let mut ports = Ports::new(&[two], &(20000..=20001));
        let first = ports.reserve("carrier0", Family::V4).unwrap();
        let second = ports.reserve("carrier0", Family::V4).unwrap();
        assert_ne!(first.rtp.ip(), second.rtp.ip());
        assert!(ports.reserve("carrier0", Family::V4).is_err());
    }

    #[test]
    fn a_pair_just_given_back_is_taken_last() {
        let mut ports = Ports::new(&[carrier()], &(20000..=20999));
        let given = ports.reserve("carrier0", Family::V4).unwrap();
        assert!(ports.release(given));
        for _ in 0..499 {
            assert_ne!(ports.reserve("carrier0", Family::V4).unwrap(), given);
        }
        assert_eq!(ports.reserve("carrier0", Family::V4).unwrap(), given);
    }

    #[test]
    fn what_is_not_taken_cannot_be_given_back() {
        let mut ports = Ports::new(&[carrier()], &(20000..=20009));
        let taken = ports.reserve("carrier0", Family::V4).unwrap();
        for foreign in [
            "198.51.100.1:19998",
            "198.51.100.1:20010",
            "198.51.100.1:65534",
            "198.51.100.2:20000",
            "198.51.100.1:20001",
        ] {
            let rtp = foreign.parse().unwrap();
            assert!(!ports.release(MediaPort { rtp }), "{foreign}");
        }
        assert!(ports.release(taken));
        assert!(!ports.release(taken));
        assert_eq!(ports.taken(), 0);
    }

    #[test]
    fn the_whole_port_space_fits() {
        let mut ports = Ports::new(&[carrier()], &(0..=65535));
        for _ in 0..32768 {
            ports.reserve("carrier0", Family::V4).unwrap();
        }
        assert!(ports.reserve("carrier0", Family::V4).is_err());
        assert_eq!(Ports::new(&[carrier()], &(65535..=65535)).total(), 0);
    }

    proptest! {
        #[test]
        fn no_pair_is_ever_taken_twice(steps in prop::collection::vec(any::<(bool, u8)>(), 0..200)) {
            let mut ports = Ports::new(&[carrier()], &(30000..=30031));
            let mut held: Vec<MediaPort> = Vec::new();
            for (take, which) in steps {
                if take {
                    match ports.reserve("carrier0", Family::V4) {
                        Ok(port) => {
                            prop_assert!(!held.contains(&port));
                            held.push(port);
                        }
                        Err(_) => prop_assert_eq!(held.len(), 16),
                    }
                } else if !held.is_empty() {
                    let port = held.swap_remove(usize::from(which) % held.len());
                    prop_assert!(ports.release(port));
                }
                prop_assert_eq!(ports.taken(), held.len());
            }
        }
    }
}
