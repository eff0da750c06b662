//! Steering: which socket receives what was punted.

use std::os::fd::AsRawFd;

use aya::{
    maps::{MapData, SockMap},
    programs::sk_lookup::SkLookupLink,
};

use super::{DatapathError, kernel_maps::refused};
use crate::media::Family;

/// The sk_lookup program of this network namespace: a datagram for any media port goes to the one
/// socket of the worker that the port belongs to, `(port / 2) % workers`. It is detached when this
/// is dropped; a socket leaves the map by being closed.
pub struct Steering {
    sockets: SockMap<MapData>,
    workers: u16,
    _link: SkLookupLink,
}

impl Steering {
    pub(super) fn new(sockets: SockMap<MapData>, link: SkLookupLink, workers: u16) -> Self {
        Self {
            sockets,
            workers,
            _link: link,
        }
    }

    /// How many workers the media ports are shared by.
    #[must_use]
    pub fn workers(&self) -> u16 {
        self.workers
    }

    /// Gives a worker its receiving socket of a family: a UDP socket that is bound, to any port.
    ///
    /// # Errors
    /// [`DatapathError::Index`], [`DatapathError::Kernel`].
    pub fn set(
        &mut self,
        worker: u16,
        family: Family,
        socket: &impl AsRawFd,
    ) -> Result<(), DatapathError> {
        if worker >= self.workers {
            return Err(DatapathError::Index {
                table: "sockets",
                index: u32::from(worker),
                limit: u32::from(self.workers),
            });
        }
        let slot = u32::from(worker) * 2 + u32::from(family == Family::V6);
        self.sockets
            .set(slot, socket, 0)
            .map_err(refused("steer to a worker's socket"))
    }
}
