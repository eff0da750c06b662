//! How much later the callee's trunk gets an INVITE, and the caller its 180, than without
//! Trunkline: from the frames at both of its interfaces. SIPp's own clock ticks in milliseconds.

use std::{collections::HashMap, time::Duration};

use ::tests::{
    lab::{Party, Side},
    wire::Capture,
};

use super::{Failure, stage::Stage};

/// What was added to each call.
pub struct Delays(Vec<Duration>);

/// A running watch.
pub struct Watch(Capture);

impl Delays {
    /// Begins to watch.
    ///
    /// # Errors
    /// When frames may not be captured.
    pub fn watch(stage: &Stage) -> Result<Watch, Failure> {
        Ok(Watch(Capture::start(stage.lab.sbc())?))
    }

    /// Milliseconds.
    ///
    /// # Errors
    /// When no call was seen whole.
    pub fn percentile(&self, percent: usize) -> Result<f64, Failure> {
        let place = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        let delay = self.0.get(place).ok_or("no call was seen whole")?;
        Ok(delay.as_secs_f64() * 1e3)
    }
}

/// When a call's messages were seen: the INVITE as it came and went, 180 as it came and went.
#[derive(Default)]
struct Seen([Option<Duration>; 4]);

impl Watch {
    /// Ends, and gives what was seen of each whole call, in order.
    ///
    /// # Errors
    /// When frames are lost.
    pub fn finish(self) -> Result<Delays, Failure> {
        let own = [Party::Carrier, Party::ContactCentre].map(|party| party.ipv4(Side::Sbc));
        let mut calls: HashMap<Vec<u8>, Seen> = HashMap::new();
        for datagram in self.0.datagrams()? {
            let comes = own.contains(&datagram.destination.ip());
            let place = match (datagram.payload.as_slice(), comes) {
                ([b'I', b'N', b'V', ..], true) => 0,
                ([b'I', b'N', b'V', ..], false) => 1,
                (payload, true) if payload.starts_with(b"SIP/2.0 180") => 2,
                (payload, false) if payload.starts_with(b"SIP/2.0 180") => 3,
                _ => continue,
            };
            if let Some(number) = number(&datagram.payload) {
                // The first of a message that came again.
                calls.entry(number).or_default().0[place].get_or_insert(datagram.time);
            }
        }
        let mut delays: Vec<Duration> = calls
            .values()
            .filter_map(|Seen(times)| {
                let [Some(a), Some(b), Some(c), Some(d)] = *times else {
                    return None;
                };
                Some(b.saturating_sub(a) + d.saturating_sub(c))
            })
            .collect();
        delays.sort_unstable();
        Ok(Delays(delays))
    }
}

/// The number that is called, from the To header: the same on both legs, and of one call alone.
fn number(payload: &[u8]) -> Option<Vec<u8>> {
    let at = payload.windows(5).position(|window| window == b"\nTo: ")?;
    let rest = payload.get(at..)?;
    let start = rest.iter().position(|octet| *octet == b'+')?;
    let digits = rest.get(start + 1..)?;
    let end = digits.iter().position(|octet| !octet.is_ascii_digit())?;
    Some(digits.get(..end)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_the_called_number() {
        let message =
            b"SIP/2.0 180 Ringing\r\nFrom: <sip:+1@a>\r\nTo: <sip:+155512@b>;tag=1\r\n\r\n";
        assert_eq!(number(message).as_deref(), Some(b"155512".as_slice()));
        assert_eq!(number(b"SIP/2.0 180 Ringing\r\n\r\n"), None);
    }
}
