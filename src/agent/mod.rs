//! The client of the guest agent, with one request per stream.
//!
//! `sandbox_protocol::agent` defines the messages (docs/agent-protocol.md). The supervisor uses the
//! client for its own requests, and `exec` for commands, whose streams the supervisor forwards.
//!
//! All data of the agent is untrusted. Its bytes reach the user's streams as the command's output,
//! but error messages contain them without control characters only. The frame limit bounds the
//! memory of each frame.

mod ask;
mod error;
mod frames;

pub use ask::ask;
pub(crate) use ask::status;
pub use error::AgentError;
pub(crate) use frames::{FromAgent, ToAgent};
