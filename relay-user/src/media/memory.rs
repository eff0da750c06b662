//! A media plane that relays nothing: for the tests of what stands above it.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    CallId, CallMedia, Capabilities, Family, MediaError, MediaInterface, MediaPlane, MediaPort,
    Path, SrtpOffload, StreamState, StreamStatistics, plan, ports::Ports,
};

/// Port accounting, plans and a record of what was asked, without a socket or a right. A clone
/// shows the same media plane, so a test can hand one over and look into the other.
#[derive(Clone, Debug)]
pub struct MemoryMedia {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    ports: Ports,
    xdp: bool,
    calls: BTreeMap<CallId, MemoryCall>,
    connects: u64,
    disconnects: u64,
}

#[derive(Debug)]
struct MemoryCall {
    media: CallMedia,
    statistics: [StreamStatistics; 2],
}

impl MemoryMedia {
    #[must_use]
    pub fn new(interfaces: Vec<MediaInterface>, ports: RangeInclusive<u16>) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                ports: Ports::new(&interfaces, &ports),
                xdp: true,
                calls: BTreeMap::new(),
                connects: 0,
                disconnects: 0,
            })),
        }
    }

    /// Plans from now on as if the XDP program were attached everywhere, or nowhere.
    pub fn set_xdp(&self, attached: bool) {
        self.lock().xdp = attached;
    }

    /// How many port pairs are reserved.
    #[must_use]
    pub fn reserved_ports(&self) -> usize {
        self.lock().ports.taken()
    }

    /// Every call that has media, as last connected.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<CallId, CallMedia> {
        let shared = self.lock();
        let calls = shared.calls.iter();
        calls.map(|(id, call)| (*id, call.media.clone())).collect()
    }

    /// How often [`MediaPlane::connect`] succeeded.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.lock().connects
    }

    /// How often [`MediaPlane::disconnect`] ended the media of a call.
    #[must_use]
    pub fn disconnects(&self) -> u64 {
        self.lock().disconnects
    }

    /// Sets what [`MediaPlane::statistics`] answers, as if packets had come; a call without media
    /// is ignored.
    pub fn set_statistics(&self, call: CallId, statistics: [StreamStatistics; 2]) {
        if let Some(call) = self.lock().calls.get_mut(&call) {
            call.statistics = statistics;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MediaPlane for MemoryMedia {
    fn reserve(&mut self, interface: &str, family: Family) -> Result<MediaPort, MediaError> {
        self.lock().ports.reserve(interface, family)
    }

    fn reserve_at(&mut self, address: IpAddr) -> Result<MediaPort, MediaError> {
        self.lock().ports.reserve_at(address)
    }

    fn release(&mut self, port: MediaPort) {
        self.lock().ports.release(port);
    }

    fn connect(&mut self, call: CallId, media: CallMedia) -> Result<[Path; 2], MediaError> {
        media.check_keys()?;
        let mut shared = self.lock();
        for leg in &media.legs {
            if !shared.ports.is_taken(leg.port) {
                return Err(MediaError::NotReserved { port: leg.port.rtp });
            }
        }
        let capabilities = Capabilities {
            xdp: [shared.xdp; 2],
            srtp: SrtpOffload::Loaded,
            rows: [true; 2],
            room: true,
        };
        let paths = plan(&media, &capabilities);
        let earlier = shared.calls.get(&call).map(|call| call.statistics);
        let statistics = [0, 1].map(|direction: usize| {
            let mut statistics = earlier.map_or_else(
                || StreamStatistics::new(paths[direction]),
                |both| both[direction],
            );
            statistics.path = paths[direction];
            statistics.state = match (media.streams[direction].active, statistics.peer) {
                (false, _) => StreamState::Held,
                (true, Some(_)) => StreamState::Flowing,
                (true, None) => StreamState::Waiting,
            };
            statistics
        });
        shared.calls.insert(call, MemoryCall { media, statistics });
        shared.connects += 1;
        Ok(paths)
    }

    fn disconnect(&mut self, call: CallId) {
        let mut shared = self.lock();
        if shared.calls.remove(&call).is_some() {
            shared.disconnects += 1;
        }
    }

    fn statistics(&self, call: CallId) -> Option<[StreamStatistics; 2]> {
        self.lock().calls.get(&call).map(|call| call.statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{PathReason, SrtpKey, SrtpKeys, SrtpSuite, tests::call};

    fn media() -> MemoryMedia {
        let interfaces = [("carrier0", "198.51.100.1"), ("centre0", "192.0.2.1")];
        let interfaces = interfaces.map(|(name, address)| MediaInterface {
            name: name.into(),
            addresses: vec![address.parse().unwrap()],
        });
        MemoryMedia::new(interfaces.into(), 20000..=20009)
    }

    #[test]
    fn a_port_is_reserved_at_an_address_as_long_as_there_are_some() {
        let mut plane = media();
        let address = "192.0.2.1".parse().unwrap();
        let ports: Vec<MediaPort> = (0..5).map(|_| plane.reserve_at(address).unwrap()).collect();
        assert!(ports.iter().all(|port| port.rtp.ip() == address));
        let interface = "centre0".to_owned();
        let exhausted = Err(MediaError::PortsExhausted { interface });
        assert_eq!(plane.reserve_at(address), exhausted);
        assert_eq!(plane.reserve("centre0", Family::V4), exhausted);
        plane.release(ports[0]);
        assert_eq!(plane.reserve("centre0", Family::V4), Ok(ports[0]));
        let stranger = plane.reserve_at("192.0.2.9".parse().unwrap());
        assert!(matches!(stranger, Err(MediaError::NoAddress { .. })));
    }

    #[test]
    fn a_call_lives_from_reserve_to_release() {
        let mut plane = media();
        let seen = plane.clone();
        let mut asked = call();
        asked.legs[0].port = plane.reserve("carrier0", Family::V4).unwrap();
        asked.legs[1].port = plane.reserve("centre0", Family::V4).unwrap();
        assert_eq!(seen.reserved_ports(), 2);

        assert_eq!(
            plane.connect(CallId(1), asked.clone()),
            Ok([Path::Xdp, Path::Xdp])
        );
        assert_eq!(seen.calls()[&CallId(1)], asked);
        asked.streams[1].active = false;
        seen.set_xdp(false);
        let path = Path::Userspace(PathReason::NoXdp);
        assert_eq!(plane.connect(CallId(1), asked.clone()), Ok([path, path]));
        let [forth, back] = plane.statistics(CallId(1)).unwrap();
        assert_eq!(forth.state, StreamState::Waiting);
        assert_eq!(back.state, StreamState::Held);

        plane.disconnect(CallId(1));
        plane.disconnect(CallId(1));
        assert_eq!((seen.connects(), seen.disconnects()), (2, 1));
        assert_eq!(plane.statistics(CallId(1)), None);
        for leg in &asked.legs {
            plane.release(leg.port);
        }
        assert_eq!(seen.reserved_ports(), 0);
    }

    #[test]
    fn a_port_that_nobody_reserved_is_refused() {
        let mut plane = media();
        let asked = call();
        assert_eq!(
            plane.connect(CallId(1), asked.clone()),
            Err(MediaError::NotReserved {
                port: asked.legs[0].port.rtp
            })
        );
    }

    #[test]
    fn keys_of_the_wrong_length_leave_the_call_as_it_was() {
        let mut plane = media();
        let mut asked = call();
        asked.legs[0].port = plane.reserve("carrier0", Family::V4).unwrap();
        asked.legs[1].port = plane.reserve("centre0", Family::V4).unwrap();
        plane.connect(CallId(1), asked.clone()).unwrap();
        let key = |octets| SrtpKey {
            suite: SrtpSuite::AeadAes256Gcm,
            master: vec![1; octets].into(),
            mki: None,
        };
        let mut wrong = asked.clone();
        wrong.legs[1].srtp = Some(SrtpKeys {
            protect: key(44),
            unprotect: key(30),
        });
        assert_eq!(
            plane.connect(CallId(1), wrong),
            Err(MediaError::Keys {
                suite: "AEAD_AES_256_GCM"
            })
        );
        assert_eq!(plane.calls()[&CallId(1)], asked);
    }
}
