//! The tables that the relay asks: maps in the kernel, collections on the host.

use core::{mem::size_of, ops::DerefMut};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    U16,
    counters::FlowCounters,
    datagram::FoundDatagram,
    event::FirstDrop,
    flow::{Endpoint, FlowEntry, FlowKey},
    next_hop::NextHop,
    row::{self, EntryWords, NextHopWords},
    shared::Shared,
    verdict::Reason,
};

/// Where the relay keeps what it found while it works on a frame; what was in it does not matter.
/// The kernel's stack has no room for it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Scratch {
    pub entry: EntryWords,
    pub next_hop: NextHopWords,
    pub datagram: FoundDatagram,
    pub key: FlowKey,
    pub source: Endpoint,
    pub event: FirstDrop,
    pub zero: U16,
}

const _: () = assert!(size_of::<Scratch>() == size_of::<FlowEntry>() + 32 + 24 + 80);

/// The most rows of one bucket. With as many buckets as flows or more, that many hardly ever meet.
pub const LONGEST: usize = 16;

/// What the relay needs to know besides the frame.
pub trait Tables {
    type Row<'a>: Shared
    where
        Self: 'a;

    type Counters<'a>: DerefMut<Target = FlowCounters>
    where
        Self: 'a;

    /// Whether `port` is in the media port range.
    fn is_media_port(&self, port: u16) -> bool;

    /// The link to the first row of the flow table with this [`row::bucket`], 0 for none.
    fn first_row(&self, bucket: u32) -> u32;

    /// A row of the flow table, by a link to it; for 0 the row of no flow.
    fn any_row(&self, link: u32) -> Option<Self::Row<'_>>;

    /// A row of the flow table, by a link to it; `None` for 0.
    #[inline(always)]
    fn flow_row(&self, link: u32) -> Option<Self::Row<'_>> {
        if link == 0 {
            return None;
        }
        self.any_row(link)
    }

    /// A row of the next-hop table.
    fn next_hop_row(&self, index: u32) -> Option<Self::Row<'_>>;

    /// Gets ready to send: back out of the ingress interface if it is `interface`, else through
    /// the device map's slot `device`; false when there is none in it.
    fn can_send(&self, interface: u32, device: u32) -> bool;

    /// The counters at `index` of this CPU, which are asked for once.
    fn counters(&self, index: u32) -> Option<Self::Counters<'_>>;

    /// Counts a frame for being relayed, where nobody else does that afterwards.
    #[inline(always)]
    fn count_relayed(&self, _octets: u64) {}

    /// Tells that a flow dropped its first packet here.
    fn tell(&mut self, event: &FirstDrop);

    /// Nanoseconds of a clock that only goes forward, as of this packet.
    fn now(&self) -> u64;

    /// The flow entry of `key`, copied to `copy`.
    ///
    /// # Errors
    /// [`Reason::UnknownFlow`].
    #[inline(always)]
    fn flow<'a>(&self, key: &FlowKey, copy: &'a mut EntryWords) -> Result<&'a FlowEntry, Reason> {
        let mut link = self.first_row(key.bucket());
        let mut rows = 0;
        while rows < LONGEST {
            let found = self.flow_row(link).ok_or(Reason::UnknownFlow)?;
            if row::is_of(found, key) {
                return Ok(row::copy_entry(found, copy));
            }
            link = row::next(found);
            rows += 1;
        }
        Err(Reason::UnknownFlow)
    }

    /// The next hop at `index`, copied to `copy`, where nobody changes it.
    ///
    /// # Errors
    /// [`Reason::UnresolvedNextHop`], [`Reason::Changing`].
    #[inline(always)]
    fn next_hop<'a>(&self, index: u32, copy: &'a mut NextHopWords) -> Result<&'a NextHop, Reason> {
        let found = self.next_hop_row(index).ok_or(Reason::UnresolvedNextHop)?;
        let version = found.version().ok_or(Reason::Changing)?;
        let next_hop = row::copy_next_hop(found, copy);
        if found.is_still(version) {
            Ok(next_hop)
        } else {
            Err(Reason::Changing)
        }
    }
}
