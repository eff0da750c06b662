//! What the programs read once for each packet that may be theirs.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Set once, before a program is attached.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Settings {
    /// The first port of the media port range.
    pub first_port: u16,
    /// The last port of the media port range.
    pub last_port: u16,
    /// How many workers share the range; 0 steers nothing.
    pub workers: u32,
}

impl Settings {
    /// Whether `port` is in the media port range.
    #[inline(always)]
    #[must_use]
    pub fn is_media_port(&self, port: u16) -> bool {
        self.first_port <= port && port <= self.last_port
    }

    /// The slot of the receiving socket for `port`: two for each worker, IPv4's first. `None` when
    /// there is nobody to steer to.
    #[inline(always)]
    #[must_use]
    pub fn socket_slot(&self, port: u16, ipv6: bool) -> Option<u32> {
        let worker = self.worker(port)?;
        Some(worker * 2 + ipv6 as u32)
    }

    /// The worker of a media port: RTP and RTCP of a port pair meet at the same one. `None` when
    /// there is none.
    #[inline(always)]
    #[must_use]
    pub fn worker(&self, port: u16) -> Option<u32> {
        if self.workers == 0 || !self.is_media_port(port) {
            return None;
        }
        Some((port as u32 / 2) % self.workers)
    }
}

const _: () = assert!(size_of::<Settings>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_pair_meets_at_one_worker_and_families_keep_apart() {
        let settings = Settings {
            first_port: 20_000,
            last_port: 20_009,
            workers: 3,
        };
        for port in (20_000..20_010).step_by(2) {
            let slot = settings.socket_slot(port, false);
            assert_eq!(slot, settings.socket_slot(port + 1, false));
            assert_eq!(slot.map(|slot| slot + 1), settings.socket_slot(port, true));
            assert!(slot.is_some_and(|slot| slot < 6));
        }
        assert_eq!(settings.socket_slot(19_999, false), None);
        assert_eq!(settings.socket_slot(20_010, false), None);
        let nobody = Settings {
            workers: 0,
            ..settings
        };
        assert_eq!(nobody.socket_slot(20_000, false), None);
    }
}
