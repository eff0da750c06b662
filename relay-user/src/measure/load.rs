//! The load to make, in a person's terms, and the frames that it begins with.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;
use relay_abi::measure::Load;
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Who the generated packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub mac: [u8; 6],
    /// Every flow's packets come from this one address and port.
    pub address: SocketAddr,
}

/// A load of RTP: packets of one size, flows in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadDescription {
    pub source: Source,
    /// The Ethernet address of the interface that is sent to.
    pub destination_mac: [u8; 6],
    /// Where flow 0 goes. Flow `f` goes to the port `2 × (f % pairs)` above, of the address
    /// `f / pairs` above.
    pub destination: SocketAddr,
    pub flows: u32,
    pub pairs: u32,
    /// Octets of RTP payload: 160 for 20 ms of G.711.
    pub payload: usize,
    pub payload_type: u8,
    /// The SSRC of flow 0; flow `f` has the one `f` above.
    pub ssrc: u32,
    /// Carries the time of sending, for latencies.
    pub timed: bool,
}

impl LoadDescription {
    /// Flow 0's first frame, whole.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut rtp = Vec::with_capacity(12 + self.payload);
        rtp.extend_from_slice(&[0x80, self.payload_type]);
        rtp.extend_from_slice(&[0; 2 + 4]);
        rtp.extend_from_slice(&self.ssrc.to_be_bytes());
        // Neither silence nor of one value; the first eight octets are for the time.
        rtp.extend((0..self.payload).map(|index| match index {
            0..8 => 0,
            _ => (index * 37 % 251) as u8,
        }));
        let builder = PacketBuilder::ethernet2(self.source.mac, self.destination_mac);
        let (from, to) = (self.source.address, self.destination);
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
            // Two families have no packet between them: an empty frame, which is sent nowhere.
            _ => return Vec::new(),
        };
        let builder = builder.udp(from.port(), to.port());
        let mut frame = Vec::with_capacity(builder.size(rtp.len()));
        match builder.write(&mut frame, &rtp) {
            Ok(()) => frame,
            Err(_) => Vec::new(),
        }
    }

    pub(super) fn to_abi(&self) -> Load {
        let frame = self.frame();
        let mut load = Load::new_zeroed();
        load.flows = self.flows;
        load.pairs = self.pairs;
        load.timestamp_step = 160;
        load.ipv6 = u8::from(self.destination.is_ipv6());
        load.timed = u8::from(self.timed);
        let template = if self.destination.is_ipv6() {
            load.template_v6.as_mut_bytes()
        } else {
            load.template_v4.as_mut_bytes()
        };
        if let Some(headers) = frame.get(..template.len()) {
            template.copy_from_slice(headers);
        }
        load
    }

    /// The number of the flow that goes to `destination`, if it is one of the load's.
    #[must_use]
    pub fn endpoint(&self, flow: u32) -> SocketAddr {
        let (address, port) = (flow / self.pairs, (flow % self.pairs * 2) as u16);
        let ip = match self.destination.ip() {
            IpAddr::V4(ip) => IpAddr::V4(u32::from(ip).wrapping_add(address).into()),
            IpAddr::V6(ip) => IpAddr::V6(u128::from(ip).wrapping_add(u128::from(address)).into()),
        };
        SocketAddr::new(ip, self.destination.port().wrapping_add(port))
    }
}
