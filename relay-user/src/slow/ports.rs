//! The sockets of single ports, for a worker that nothing steers packets to.

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::mpsc::SyncSender,
};

use relay_abi::flow::FlowKey;

/// One socket, from its first receive to the completion that ends the last.
#[derive(Debug)]
struct Port {
    socket: OwnedFd,
    key: FlowKey,
    /// Set when it is to be closed; dropped with it, which tells whoever waits.
    closing: bool,
    done: Option<SyncSender<()>>,
    overflows: u32,
}

/// A worker's port sockets, by the number that their completions bear.
#[derive(Debug, Default)]
pub(super) struct Ports {
    slots: Vec<Option<Port>>,
    free: Vec<u32>,
}

impl Ports {
    /// Takes a socket in and numbers it.
    pub(super) fn add(&mut self, key: FlowKey, socket: OwnedFd) -> u32 {
        let port = Some(Port {
            socket,
            key,
            closing: false,
            done: None,
            overflows: 0,
        });
        match self.free.pop() {
            Some(number) => {
                if let Some(slot) = self.slots.get_mut(number as usize) {
                    *slot = port;
                }
                number
            }
            None => {
                self.slots.push(port);
                (self.slots.len() - 1) as u32
            }
        }
    }

    /// The descriptor of an open socket.
    pub(super) fn descriptor(&self, number: u32) -> Option<RawFd> {
        let port = self.slots.get(number as usize)?.as_ref()?;
        (!port.closing).then(|| port.socket.as_raw_fd())
    }

    /// Whether the flow has sockets here.
    pub(super) fn has(&self, key: &FlowKey) -> bool {
        self.slots
            .iter()
            .flatten()
            .any(|port| !port.closing && port.key == *key)
    }

    /// Marks the flow's sockets for closing; their numbers, whose receives are to be cancelled.
    pub(super) fn close(&mut self, key: &FlowKey, done: Option<&SyncSender<()>>) -> Vec<u32> {
        let mut numbers = Vec::new();
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(port) = slot
                && port.key == *key
                && !port.closing
            {
                port.closing = true;
                port.done = done.cloned();
                numbers.push(number as u32);
            }
        }
        numbers
    }

    /// The last receive of a socket has ended: closes it if it is to be closed, and says so.
    pub(super) fn ended(&mut self, number: u32) -> bool {
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return true;
        };
        let closing = slot.as_ref().is_none_or(|port| port.closing);
        if closing && slot.take().is_some() {
            self.free.push(number);
        }
        closing
    }

    /// How many packets a socket has dropped since it was asked last; `total` is the kernel's count.
    pub(super) fn overflows(&mut self, number: u32, total: u32) -> u32 {
        let Some(Some(port)) = self.slots.get_mut(number as usize) else {
            return 0;
        };
        let new = total.wrapping_sub(port.overflows);
        port.overflows = total;
        new
    }
}
