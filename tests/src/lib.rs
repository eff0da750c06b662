//! What the demo and the end-to-end tests share: a laboratory of network namespaces, real SIP
//! peers in them, sound to send, and the means to say what arrived.

pub mod daemon;
pub mod damage;
pub mod demo;
pub mod lab;
pub mod peers;
pub mod scene;
pub mod sound;
pub mod twin;
pub mod wire;
