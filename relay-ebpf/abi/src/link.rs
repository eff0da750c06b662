//! The link layer of frames that leave: Ethernet addresses and VLAN tags, by the next hop.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    U16,
    frame::Frame,
    headers::{self, Ethernet, Tag},
    next_hop::NextHop,
    verdict::Reason,
};

/// Where the IP header is behind the next hop's tags.
#[inline(always)]
pub(crate) fn network(next_hop: &NextHop) -> usize {
    match next_hop.tag_count {
        0 => 14,
        1 => 18,
        _ => 22,
    }
}

/// Makes room for the next hop's tags, or takes away what is too much. The new offset of the IP
/// header.
#[inline(always)]
pub(crate) fn resize_link<F: Frame>(
    frame: &mut F,
    network: usize,
    next_hop: &NextHop,
) -> Result<usize, Reason> {
    let wanted = self::network(next_hop);
    if wanted != network && !frame.grow_head(wanted as i32 - network as i32) {
        return Err(Reason::NoRoom);
    }
    Ok(wanted)
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct OneTag {
    ethernet: Ethernet,
    tag: Tag,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TwoTags {
    ethernet: Ethernet,
    outer: Tag,
    inner: Tag,
}

#[inline(always)]
pub(crate) fn write_link<F: Frame>(frame: &mut F, ipv6: bool, next_hop: &NextHop) -> Option<()> {
    let carried = U16::new(if ipv6 { headers::IPV6 } else { headers::IPV4 });
    let [outer, inner] = next_hop.tags;
    let ethernet = |ether_type| Ethernet {
        destination: next_hop.destination,
        source: next_hop.source,
        ether_type,
    };
    match next_hop.tag_count {
        0 => *frame.view_mut(0)? = ethernet(carried),
        1 => {
            *frame.view_mut(0)? = OneTag {
                ethernet: ethernet(outer.protocol),
                tag: Tag {
                    control: outer.control,
                    ether_type: carried,
                },
            };
        }
        _ => {
            *frame.view_mut(0)? = TwoTags {
                ethernet: ethernet(outer.protocol),
                outer: Tag {
                    control: outer.control,
                    ether_type: inner.protocol,
                },
                inner: Tag {
                    control: inner.control,
                    ether_type: carried,
                },
            };
        }
    }
    Some(())
}
