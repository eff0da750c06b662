//! Messages as they are written.

use std::net::{IpAddr, SocketAddr};

use super::{
    COOKIE, Class, HEADER,
    attribute::Attribute,
    integrity::{self, TAG},
};

/// Writes a message into a buffer. What does not fit is told by [`Builder::finish`].
#[derive(Debug)]
pub struct Builder<'a> {
    buffer: &'a mut [u8],
    length: usize,
    fits: bool,
}

impl<'a> Builder<'a> {
    /// Begins a message of a method and class in answer to, or as, `transaction`.
    pub fn new(buffer: &'a mut [u8], method: u16, class: Class, transaction: &[u8; 12]) -> Self {
        let class = match class {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        let kind = class | method & 0x000f | (method & 0x0070) << 1 | (method & 0x0f80) << 2;
        let mut builder = Self {
            buffer,
            length: 0,
            fits: true,
        };
        builder.put(&kind.to_be_bytes());
        builder.put(&[0, 0]);
        builder.put(&COOKIE.to_be_bytes());
        builder.put(transaction);
        builder
    }

    /// Appends an attribute, padded with zeros.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let Ok(length) = u16::try_from(value.len()) else {
            self.fits = false;
            return;
        };
        self.put(&kind.to_be_bytes());
        self.put(&length.to_be_bytes());
        self.put(value);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.put([0; 3].get(..padding).unwrap_or_default());
    }

    /// Appends XOR-MAPPED-ADDRESS (RFC 8489, section 14.2).
    pub fn mapped_address(&mut self, address: SocketAddr) {
        let mask = self.mask();
        let mut value = [0; 20];
        let (family, octets): (u8, &[u8]) = match address.ip().to_canonical() {
            IpAddr::V4(ip) => (1, &ip.octets()),
            IpAddr::V6(ip) => (2, &ip.octets()),
        };
        let [_, kind, port_high, port_low, rest @ ..] = &mut value;
        *kind = family;
        let [first, second, ..] = mask;
        let [high, low] = address.port().to_be_bytes();
        (*port_high, *port_low) = (high ^ first, low ^ second);
        for ((to, octet), mask) in rest.iter_mut().zip(octets).zip(mask) {
            *to = octet ^ mask;
        }
        self.attribute(
            Attribute::XOR_MAPPED_ADDRESS,
            value.get(..4 + octets.len()).unwrap_or_default(),
        );
    }

    /// Appends ERROR-CODE (RFC 8489, section 14.8); codes are from 300 to 699.
    pub fn error_code(&mut self, code: u16, reason: &str) {
        let number = [0, 0, (code / 100) as u8, (code % 100) as u8];
        let Ok(length) = u16::try_from(number.len() + reason.len()) else {
            self.fits = false;
            return;
        };
        self.put(&Attribute::ERROR_CODE.to_be_bytes());
        self.put(&length.to_be_bytes());
        self.put(&number);
        self.put(reason.as_bytes());
        let padding = reason.len().next_multiple_of(4) - reason.len();
        self.put([0; 3].get(..padding).unwrap_or_default());
    }

    /// Appends MESSAGE-INTEGRITY by the password.
    pub fn integrity(&mut self, password: &[u8]) {
        let covered = self.buffer.get(..self.length).unwrap_or_default();
        let length = (self.length + 4 + TAG).saturating_sub(HEADER);
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        match integrity::tag(covered, length, password) {
            Some(tag) => self.attribute(Attribute::MESSAGE_INTEGRITY, &tag),
            None => self.fits = false,
        }
    }

    /// Appends FINGERPRINT, which has to be the last.
    pub fn fingerprint(&mut self) {
        // Over the message with the length that it will have.
        self.write_length(self.length + 8);
        let covered = self.buffer.get(..self.length).unwrap_or_default();
        let fingerprint = integrity::fingerprint(covered);
        self.attribute(Attribute::FINGERPRINT, &fingerprint.to_be_bytes());
    }

    /// Ends the message: its octets, `None` when it does not fit the buffer.
    #[must_use]
    pub fn finish(mut self) -> Option<usize> {
        self.write_length(self.length);
        self.fits.then_some(self.length)
    }

    /// The cookie and the transaction, by which addresses are masked.
    fn mask(&self) -> [u8; 16] {
        let mask = self.buffer.get(4..).and_then(|rest| rest.first_chunk());
        mask.copied().unwrap_or_default()
    }

    fn write_length(&mut self, total: usize) {
        let length = u16::try_from(total.saturating_sub(HEADER));
        match (length, self.buffer.get_mut(2..4)) {
            (Ok(length), Some(place)) => place.copy_from_slice(&length.to_be_bytes()),
            _ => self.fits = false,
        }
    }

    fn put(&mut self, octets: &[u8]) {
        let end = self.length + octets.len();
        match self.buffer.get_mut(self.length..end) {
            Some(place) if self.fits => {
                place.copy_from_slice(octets);
                self.length = end;
            }
            _ => self.fits = false,
        }
    }
}
