//! A resolver of the laboratory's own (RFC 1035): answers for a few names and knows no others.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::lab::{Door, LabError, Result};

/// How long an answer may be kept, in seconds.
const TTL: u32 = 5;

/// A running resolver; it ends when it is dropped.
#[derive(Debug)]
pub struct Resolver {
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
        names: &[(&str, Vec<Ipv4Addr>)],
    ) -> Result<Self> {
        let names: HashMap<String, Vec<Ipv4Addr>> = names
            .iter()
            .map(|(name, addresses)| (name.to_ascii_lowercase(), addresses.clone()))
            .collect();
        let socket = door
            .enter(|| UdpSocket::bind(address))?
            .map_err(|error| LabError::new(format!("{address}: {error}")))?;
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .map_err(LabError::new)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut octets = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut octets)
                    && let Some(answer) = answer(&octets[..length], &names)
                {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(Self { stop })
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answer(query: &[u8], names: &HashMap<String, Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    let (name, end) = question(query)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let known = names.get(&name.to_ascii_lowercase());
    let addresses: &[Ipv4Addr] = match known {
        Some(addresses) if kind == 1 => addresses,
        _ => &[],
    };
    let code = if known.is_some() { 0 } else { 3 };
    let count = u8::try_from(addresses.len()).ok()?;
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend(query.get(12..end + 4)?);
    for address in addresses {
        reply.extend([0xc0, 12, 0, 1, 0, 1]);
        reply.extend(TTL.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
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
        let names = HashMap::from([(
            "sip.pstnhub.microsoft.com".to_owned(),
            vec![Ipv4Addr::new(192, 0, 2, 2)],
        )]);
        let query = |name: &str, kind: u8| {
            let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                query.push(u8::try_from(label.len()).expect("short"));
                query.extend(label.as_bytes());
            }
            query.extend([0, 0, kind, 0, 1]);
            answer(&query, &names).expect("an answer")
        };
        let known = query("SIP.pstnhub.microsoft.com", 1);
        assert_eq!(known[3] & 15, 0);
        assert!(known.ends_with(&[0, 4, 192, 0, 2, 2]));
        let no_ipv6 = query("sip.pstnhub.microsoft.com", 28);
        assert_eq!((no_ipv6[3] & 15, no_ipv6[7]), (0, 0));
        assert_eq!(query("sip.example.com", 1)[3] & 15, 3);
    }
}
