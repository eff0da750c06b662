//! A worker's flows, by local endpoint.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    ops::Range,
};

use relay_abi::flow::{Endpoint, FlowKey};

use super::{
    Discard,
    relaying::{Departure, Received, Surroundings},
    served::{Prepared, Served},
};

/// Keys are local endpoints that we chose, so the hash has to be quick and nothing else.
#[derive(Debug, Default)]
pub(super) struct EndpointHasher(u64);

impl Hasher for EndpointHasher {
    fn write(&mut self, octets: &[u8]) {
        for chunk in octets.chunks(8) {
            let mut word = [0; 8];
            if let Some(place) = word.get_mut(..chunk.len()) {
                place.copy_from_slice(chunk);
            }
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

/// The flows of one worker.
#[derive(Debug, Default)]
pub(super) struct Table {
    flows: HashMap<FlowKey, Box<Served>, BuildHasherDefault<EndpointHasher>>,
}

impl Table {
    pub(super) fn install(&mut self, prepared: Prepared) {
        match self.flows.get_mut(&prepared.key) {
            Some(served) => served.update(prepared),
            None => {
                let key = prepared.key;
                self.flows.insert(key, Box::new(Served::new(prepared)));
            }
        }
    }

    pub(super) fn remove(&mut self, key: &FlowKey) {
        self.flows.remove(key);
    }

    /// Relays a datagram; RTCP's port is the one after the flow's.
    ///
    /// # Errors
    /// The reason for which it ends here.
    pub(super) fn relay(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        payload: Range<usize>,
        around: Surroundings<'_>,
    ) -> Result<Departure, Discard> {
        let key = FlowKey {
            local: Endpoint {
                address: received.local.address,
                port: (received.local.port.get() & !1).into(),
            },
            zero: 0.into(),
        };
        self.flows
            .get_mut(&key)
            .ok_or(Discard::UnknownFlow)?
            .relay(received, buffer, payload, around)
    }
}
