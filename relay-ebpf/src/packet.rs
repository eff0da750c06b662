//! The packet that the driver gave, as a [`Frame`].

use core::{
    hint::{assert_unchecked, cold_path},
    mem::size_of,
};

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
    programs::XdpContext,
};
use relay_abi::{
    frame::{Frame, View},
    secured::SecuredFrame,
    srtp::packet::{LONGEST_PROTECTED, Work},
};

use crate::opaque::{one_less, opaque};

/// Offsets that the packet decides are kept below this: the verifier wants a bound, and no packet
/// of one buffer is longer.
const VARIABLE_OFFSETS: usize = 0x4000;

/// The linear part of an XDP packet.
pub struct Packet<'a> {
    context: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        let start = context.data();
        // SAFETY: no packet is there.
        unsafe { assert_unchecked(start != 0) };
        Self {
            context,
            start,
            end: context.data_end(),
        }
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn view<T: View>(&self, offset: usize) -> Option<&T> {
        let start = self.start + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the octets are within the packet, as just compared; any octets make a `T`, which
        // has no alignment; nothing else holds them, as `self` is borrowed.
        Some(unsafe { &*(start as *const T) })
    }

    #[inline(always)]
    fn view_mut<T: View>(&mut self, offset: usize) -> Option<&mut T> {
        let start = self.start + offset;
        if start + size_of::<T>() > self.end {
            cold_path();
            return None;
        }
        // SAFETY: as in `view`, and `self` is borrowed mutably.
        Some(unsafe { &mut *(start as *mut T) })
    }

    #[inline(always)]
    fn octet(&self, offset: usize) -> Option<u8> {
        let offset = opaque(offset);
        if offset >= VARIABLE_OFFSETS {
            return None;
        }
        let start = opaque(self.start + offset);
        if start + 1 > self.end {
            return None;
        }
        // SAFETY: the octet is within the packet, as just compared.
        Some(unsafe { *(start as *const u8) })
    }

    #[inline(always)]
    fn grow_head(&mut self, by: i32) -> bool {
        // SAFETY: the context is the one that the kernel gave; pointers into the packet are made
        // anew below.
        if unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), -by) } != 0 {
            return false;
        }
        self.start = self.context.data();
        self.end = self.context.data_end();
        true
    }
}

/// A number of octets in the form that the verifier follows, `None` for what never is copied.
#[inline(always)]
fn copied(length: usize) -> Option<u32> {
    let last = one_less(length);
    (last < LONGEST_PROTECTED).then_some(last as u32 + 1)
}

impl SecuredFrame for Packet<'_> {
    #[inline(always)]
    fn load(&self, offset: usize, length: usize, work: &mut Work) -> bool {
        let Some(octets) = copied(length) else {
            return false;
        };
        let place = work.packet().as_mut_ptr().cast();
        // SAFETY: `place` has room for `LONGEST_PROTECTED` octets and more.
        let result = unsafe {
            bpf_xdp_load_bytes(self.context.as_ptr().cast(), offset as u32, place, octets)
        };
        result == 0
    }

    #[inline(always)]
    fn store(&mut self, offset: usize, length: usize, work: &mut Work) -> bool {
        let Some(octets) = copied(length) else {
            return false;
        };
        let place = work.packet().as_mut_ptr().cast();
        // SAFETY: as in `load`.
        let result = unsafe {
            bpf_xdp_store_bytes(self.context.as_ptr().cast(), offset as u32, place, octets)
        };
        result == 0
    }

    #[inline(always)]
    fn grow_tail(&mut self, by: i32) -> bool {
        // SAFETY: as in `grow_head`.
        if unsafe { bpf_xdp_adjust_tail(self.context.as_ptr().cast(), by) } != 0 {
            return false;
        }
        self.start = self.context.data();
        self.end = self.context.data_end();
        true
    }
}
