//! The system call by which the kernel makes and changes maps.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
pub(super) const ARRAY: u32 = 2;
pub(super) const ARRAY_OF_MAPS: u32 = 12;
/// A process can have the map in its memory.
pub(super) const MAPPABLE: u32 = 1 << 10;

/// The beginning of the kernel's `bpf_attr` for a new map: zeros are meant behind it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Create {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub inner_map: u32,
    pub numa_node: u32,
    /// Ends with a zero.
    pub name: [u8; 16],
}

/// The same for an element that is written.
#[repr(C)]
struct Update {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// # Safety
/// `T` is plain data, and what it points to is as long as the kernel reads for the command.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are as long as said and live over the call; the rest is the caller's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

impl Create {
    /// Makes the map.
    pub(super) fn create(&self) -> io::Result<OwnedFd> {
        // SAFETY: integers, none of which is an address.
        let descriptor = unsafe { bpf(MAP_CREATE, self)? };
        // SAFETY: the kernel has just given it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
    }
}

/// Writes an element of a map.
///
/// # Safety
/// The map's keys and values are of four octets.
pub(super) unsafe fn write(map: BorrowedFd<'_>, key: u32, value: &i32) -> io::Result<()> {
    let attributes = Update {
        map: map.as_raw_fd() as u32,
        zero: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    // SAFETY: integers, two of them addresses of four octets, as the kernel reads of this map.
    unsafe { bpf(MAP_UPDATE_ELEM, &attributes) }.map(|_| ())
}
