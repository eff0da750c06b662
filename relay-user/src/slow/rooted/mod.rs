//! Workers between two namespaces, with a caller in one and a callee in the other: real sockets,
//! real packets, libsrtp at the far end.

mod frames;
mod lab;
mod overload;
mod refusal;
mod relaying;
mod rings;
mod seccomp;
mod stopped;
mod told;
