//! The workers' rings: what the XDP program punts of known flows goes to its worker by these, past
//! the network stack.

use std::{
    ops::Deref,
    os::fd::{AsRawFd, RawFd},
};

use aya::{
    Ebpf,
    maps::{ArrayOfMaps, Map, MapData, MapError, RingBuf},
};

use super::{configuration::ring_octets, kernel_maps::cause};

/// Linux's number of the kind of map.
const RING_BUFFER: u32 = 27;

/// The ring of one worker, which reads it. Who holds it last lets go of its memory.
pub struct WorkerRing(RingBuf<MapData>);

impl WorkerRing {
    fn new(octets: u32) -> Result<Self, MapError> {
        let description = aya_obj::Map::new_from_params(RING_BUFFER, 0, 0, octets, 0);
        let map = MapData::create(description, "worker_ring", None)?;
        RingBuf::try_from(Map::RingBuf(map)).map(Self)
    }

    /// The next record, as [`relay_abi::punted`] describes it. Its room in the ring is free again
    /// when it is dropped.
    pub(crate) fn next(&mut self) -> Option<impl Deref<Target = [u8]> + '_> {
        self.0.next()
    }
}

/// Readable when a record came to an empty ring.
impl AsRawFd for WorkerRing {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Makes the rings of so many workers and puts them where the program finds them.
pub(super) fn make(bpf: &mut Ebpf, workers: u16) -> Result<Vec<WorkerRing>, String> {
    let map = bpf.map_mut("RINGS").ok_or("the object has no map RINGS")?;
    let slots: Result<ArrayOfMaps<_, RingBuf<MapData>>, MapError> = map.try_into();
    let mut slots = slots.map_err(|error| cause(&error))?;
    let workers = u32::from(workers);
    (0..workers)
        .map(|worker| {
            let ring = WorkerRing::new(ring_octets(workers))?;
            slots.set(worker, &ring.0, 0)?;
            Ok(ring)
        })
        .collect::<Result<_, MapError>>()
        .map_err(|error| cause(&error))
}
