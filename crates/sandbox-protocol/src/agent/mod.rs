//! Protocol between the host and the guest agent.
//!
//! It has three layers, outermost first. `docs/agent-protocol.md` describes
//! their bytes.
//!
//! 1. A byte stream: the virtio-serial port [`PORT_NAME`]. A port has no connections, so each side
//!    finds the start of a conversation by its [`preamble`].
//! 2. [`mux`]: yamux streams, each with its own flow control.
//! 3. [`frame`]: length-delimited frames. A stream carries one [`message::Request`] of the host,
//!    its answer and its data.
//!
//! Host and guest use this crate, and both refuse a peer with another
//! [`VERSION`]. So the version that decodes a message is always the version
//! that encoded it. Every change to the wire format raises the number.
//!
//! The host assumes a hostile guest: constants of this crate bound every
//! buffer that a peer can fill.

pub mod frame;
pub mod message;
pub mod mux;
pub mod preamble;

/// The version of the whole protocol.
pub const VERSION: u32 = 1;

/// The name of the virtio-serial port.
pub const PORT_NAME: &str = "org.sandbox.agent.0";
