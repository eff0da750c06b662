//! Frames as the relay sees them: bounds-checked views at offsets. The XDP program implements
//! [`Frame`] over its packet, the host over a buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    secured::SecuredFrame,
    srtp::packet::{LONGEST_PROTECTED, Work},
};

/// What a frame can be viewed as: plain data without alignment.
pub trait View: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned {}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned> View for T {}

/// An Ethernet frame.
pub trait Frame {
    /// The octets of the frame, its Ethernet header included.
    fn length(&self) -> usize;

    /// The octets from `offset` on as a `T`, `None` if the frame ends before it does.
    fn view<T: View>(&self, offset: usize) -> Option<&T>;

    /// As [`Frame::view`], to be written.
    fn view_mut<T: View>(&mut self, offset: usize) -> Option<&mut T>;

    /// The octet at an offset that the packet itself decides.
    fn octet(&self, offset: usize) -> Option<u8>;

    /// Moves the frame's head: `by` octets of room are added in front, or taken away if negative.
    /// What the added octets hold is undefined. False leaves the frame as it was.
    fn grow_head(&mut self, by: i32) -> bool;
}

/// A frame in memory, with a bounded room in front and behind.
#[derive(Debug)]
pub struct BufferFrame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
}

impl<'a> BufferFrame<'a> {
    /// The frame that is in `buffer` from `start` on; what is before it is room to grow.
    /// A `start` behind the end makes an empty frame.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], start: usize) -> Self {
        let end = buffer.len();
        Self::between(buffer, start, end)
    }

    /// The frame that is in `buffer` from `start` to `end`; what is around it is room to grow.
    #[must_use]
    pub fn between(buffer: &'a mut [u8], start: usize, end: usize) -> Self {
        let end = end.min(buffer.len());
        let start = start.min(end);
        Self { buffer, start, end }
    }

    /// The frame's octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }
}

impl Frame for BufferFrame<'_> {
    fn length(&self) -> usize {
        self.octets().len()
    }

    fn view<T: View>(&self, offset: usize) -> Option<&T> {
        let (view, _) = T::ref_from_prefix(self.octets().get(offset..)?).ok()?;
        Some(view)
    }

    fn view_mut<T: View>(&mut self, offset: usize) -> Option<&mut T> {
        let octets = self
            .buffer
            .get_mut(self.start..self.end)?
            .get_mut(offset..)?;
        let (view, _) = T::mut_from_prefix(octets).ok()?;
        Some(view)
    }

    fn octet(&self, offset: usize) -> Option<u8> {
        self.octets().get(offset).copied()
    }

    fn grow_head(&mut self, by: i32) -> bool {
        let Ok(start) = usize::try_from(self.start as i64 - i64::from(by)) else {
            return false;
        };
        if start > self.end {
            return false;
        }
        self.start = start;
        true
    }
}

impl SecuredFrame for BufferFrame<'_> {
    fn load(&self, offset: usize, length: usize, work: &mut Work) -> bool {
        let from = self
            .octets()
            .get(offset..)
            .and_then(|octets| octets.get(..length));
        let (Some(from), Some(to)) = (from, work.packet().get_mut(..length)) else {
            return false;
        };
        to.copy_from_slice(from);
        length != 0 && length <= LONGEST_PROTECTED
    }

    fn store(&mut self, offset: usize, length: usize, work: &mut Work) -> bool {
        let to = self
            .buffer
            .get_mut(self.start..self.end)
            .and_then(|octets| octets.get_mut(offset..))
            .and_then(|octets| octets.get_mut(..length));
        let (Some(from), Some(to)) = (work.packet().get(..length), to) else {
            return false;
        };
        to.copy_from_slice(from);
        length != 0
    }

    fn grow_tail(&mut self, by: i32) -> bool {
        let Ok(end) = usize::try_from(self.end as i64 + i64::from(by)) else {
            return false;
        };
        if end < self.start || end > self.buffer.len() {
            return false;
        }
        self.end = end;
        true
    }
}
