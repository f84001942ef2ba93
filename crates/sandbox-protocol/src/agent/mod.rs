//! What the host and the guest agent say to each other.
//!
//! Three layers, outermost first; `docs/agent-protocol.md` describes them for
//! those who read bytes:
//!
//! 1. a byte stream, the virtio-serial port [`PORT_NAME`], which knows no
//!    connections: each side finds the beginning of a conversation by its
//!    [`preamble`];
//! 2. [`mux`]: streams with flow control of their own, by yamux;
//! 3. [`frame`]: on each stream one [`message::Request`] of the host and what
//!    follows from it, length-delimited.
//!
//! Host and guest use the same crate, and both refuse a peer of another
//! [`VERSION`]: nothing here is ever decoded by another version than the one
//! that encoded it. A change of anything that travels raises the number.
//!
//! The guest is hostile towards the host: every buffer that a peer can fill is
//! bounded, by constants of this crate.

pub mod frame;
pub mod message;
pub mod mux;
pub mod preamble;

/// The version of everything in this crate.
pub const VERSION: u32 = 1;

/// The name of the virtio-serial port.
pub const PORT_NAME: &str = "org.sandbox.agent.0";
