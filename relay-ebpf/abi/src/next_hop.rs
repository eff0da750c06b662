//! Next hops: how a frame leaves the machine. Userspace keeps them true from netlink, and no flow
//! is touched when a neighbour changes.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{U16, U32};

/// One 802.1Q or 802.1ad tag, as it is written.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct VlanTag {
    /// The tag protocol identifier: [`crate::headers::VLAN`] or [`crate::headers::SERVICE_VLAN`].
    pub protocol: U16,
    /// The tag control information: priority, drop eligibility and VLAN (IEEE 802.1Q).
    pub control: U16,
}

/// One way out: a device, the Ethernet addresses and the VLAN tags.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct NextHop {
    /// The kernel's index of the device that frames leave by; a VLAN's lower device.
    pub interface: U32,
    /// The slot of that device in the device map.
    pub device: U32,
    /// The largest IP packet, in octets, that the device takes.
    pub mtu: U16,
    pub source: [u8; 6],
    pub destination: [u8; 6],
    /// The tags to write, outermost first.
    pub tags: [VlanTag; 2],
    /// How many of `tags` to write: 0, 1 or 2.
    pub tag_count: u8,
    /// 1 once the neighbour answered; a flow over an unresolved next hop is punted.
    pub resolved: u8,
}

const _: () = assert!(size_of::<NextHop>() == 32);
