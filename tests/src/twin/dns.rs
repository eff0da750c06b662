//! A resolver of the laboratory's own (RFC 1035): answers for a few names and knows no others.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::agent::lock;
use crate::{
    daemon::TLS_PORT,
    lab::{Door, LabError, Result},
};

/// How long an answer may be kept, in seconds.
const TTL: u32 = 5;

/// What is known of names, by their lower case.
#[derive(Debug, Default)]
struct Zone {
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    services: HashMap<String, Vec<Service>>,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug)]
pub struct Service {
    priority: u16,
    weight: u16,
    port: u16,
    target: String,
}

/// A running resolver; it ends when it is dropped.
#[derive(Debug)]
pub struct Resolver {
    zone: Arc<Mutex<Zone>>,
    stop: Arc<AtomicBool>,
}

impl Resolver {
    /// Answers at `address` for `names`; several addresses of a name are all given.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(
        door: &Door,
        address: SocketAddr,
        names: impl IntoIterator<Item = (impl AsRef<str>, Vec<Ipv4Addr>)>,
    ) -> Result<Self> {
        let zone = Arc::new(Mutex::new(Zone {
            addresses: names
                .into_iter()
                .map(|(name, addresses)| (name.as_ref().to_ascii_lowercase(), addresses))
                .collect(),
            services: HashMap::new(),
        }));
        let socket = door
            .enter(|| UdpSocket::bind(address))?
            .map_err(|error| LabError::new(format!("{address}: {error}")))?;
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .map_err(LabError::new)?;
        let resolver = Self {
            zone: Arc::clone(&zone),
            stop: Arc::default(),
        };
        let stopped = Arc::clone(&resolver.stop);
        thread::spawn(move || {
            let mut octets = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut octets)
                    && let Some(answer) = answer(&octets[..length], &lock(&zone))
                {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(resolver)
    }

    /// Gives these SRV records from now on for a name such as `_sip._udp.example.com`.
    pub fn set_services(&self, name: &str, services: &[Service]) {
        let name = name.to_ascii_lowercase();
        lock(&self.zone).services.insert(name, services.to_vec());
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The types of A and SRV records.
const A: u16 = 1;
const SRV: u16 = 33;

fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let (name, end) = question(query)?;
    let name = name.to_ascii_lowercase();
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let (addresses, services) = (zone.addresses.get(&name), zone.services.get(&name));
    let is_known = addresses.is_some() || services.is_some();
    let data: Vec<Vec<u8>> = match kind {
        A => addresses
            .into_iter()
            .flatten()
            .map(|address| address.octets().to_vec())
            .collect(),
        SRV => services.into_iter().flatten().map(Service::data).collect(),
        _ => Vec::new(),
    };
    let code = if is_known { 0 } else { 3 };
    let count = u8::try_from(data.len()).ok()?;
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend(query.get(12..end + 4)?);
    for data in data {
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(TTL.to_be_bytes());
        reply.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        reply.extend(data);
    }
    Some(reply)
}

impl Service {
    #[must_use]
    pub fn new(priority: u16, weight: u16, port: u16, target: &str) -> Self {
        Self {
            priority,
            weight,
            port,
            target: target.to_owned(),
        }
    }

    /// One at the port of TLS.
    #[must_use]
    pub fn tls(priority: u16, weight: u16, target: &str) -> Self {
        Self::new(priority, weight, TLS_PORT, target)
    }

    fn data(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for number in [self.priority, self.weight, self.port] {
            data.extend(number.to_be_bytes());
        }
        for label in self.target.split('.') {
            data.extend(u8::try_from(label.len()));
            data.extend(label.as_bytes());
        }
        data.push(0);
        data
    }
}

/// The name asked for and where its type stands.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..64 => labels.push(String::from_utf8_lossy(query.get(at..at + length)?)),
            _ => return None,
        }
        at += length;
    }
    Some((labels.join("."), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_have_their_addresses_and_no_others() {
        let known = vec![Ipv4Addr::new(192, 0, 2, 2)];
        let service = Service::new(10, 60, 5061, "a.example");
        let zone = Zone {
            addresses: HashMap::from([("sip.pstnhub.microsoft.com".to_owned(), known)]),
            services: HashMap::from([("_sip._udp.example.com".to_owned(), vec![service])]),
        };
        let query = |name: &str, kind: u8| {
            let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                query.push(u8::try_from(label.len()).expect("short"));
                query.extend(label.as_bytes());
            }
            query.extend([0, 0, kind, 0, 1]);
            answer(&query, &zone).expect("an answer")
        };
        let known = query("SIP.pstnhub.microsoft.com", 1);
        assert_eq!(known[3] & 15, 0);
        assert!(known.ends_with(&[0, 4, 192, 0, 2, 2]));
        let no_ipv6 = query("sip.pstnhub.microsoft.com", 28);
        assert_eq!((no_ipv6[3] & 15, no_ipv6[7]), (0, 0));
        assert_eq!(query("sip.example.com", 1)[3] & 15, 3);
        let service = query("_sip._UDP.example.com", 33);
        assert_eq!((service[3] & 15, service[7]), (0, 1));
        assert!(service.ends_with(b"\0\x11\0\x0a\0\x3c\x13\xc5\x01a\x07example\0"));
    }
}
