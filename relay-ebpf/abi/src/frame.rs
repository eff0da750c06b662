//! Frames as the relay sees them: bounds-checked views at offsets. The XDP program implements
//! [`Frame`] over its packet, the host over a buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

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

/// A frame in memory, with a bounded room in front.
#[derive(Debug)]
pub struct BufferFrame<'a> {
    buffer: &'a mut [u8],
    start: usize,
}

impl<'a> BufferFrame<'a> {
    /// The frame that is in `buffer` from `start` on; what is before it is room to grow.
    /// A `start` behind the end makes an empty frame.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], start: usize) -> Self {
        let start = start.min(buffer.len());
        Self { buffer, start }
    }

    /// The frame's octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
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
        let octets = self.buffer.get_mut(self.start..)?.get_mut(offset..)?;
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
        if start > self.buffer.len() {
            return false;
        }
        self.start = start;
        true
    }
}
