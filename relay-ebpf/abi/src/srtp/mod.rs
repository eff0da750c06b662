//! SRTP (RFC 3711) with AES_CM_128_HMAC_SHA1_80 and AES_CM_128_HMAC_SHA1_32 (RFC 4568), in a form
//! that the kernel's verifier can follow: bounded loops, fixed buffers, working memory from the
//! caller.
//!
//! AES is by tables, which by our count take fewer BPF instructions for a block than a bitsliced
//! form. What that means for a cache-timing attacker is said in `docs/srtp-in-xdp.md`.

pub mod aes;
#[cfg(not(target_arch = "bpf"))]
pub mod buffer;
#[cfg(not(target_arch = "bpf"))]
pub mod derivation;
pub mod index;
pub mod key;
pub mod machine;
pub mod packet;
pub mod sha1;
pub mod stream;

#[cfg(test)]
mod tests;
