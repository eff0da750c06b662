//! The media plane in userspace: it loads and feeds the XDP program, serves in io_uring workers
//! what the kernel cannot, and protects and unprotects SRTP. It never sees a SIP message.

mod clock;
pub mod measure;
pub mod media;
mod next_hop;
pub mod offload;
pub mod rtcp;
pub mod slow;
pub mod srtp;
pub mod stun;

#[cfg(test)]
mod done;
#[cfg(test)]
mod namespace;
#[cfg(test)]
mod process;
