//! The client of the guest agent: one request a stream.
//!
//! May use `sandbox_protocol::agent`, which says what travels (docs/agent-protocol.md). Used by the
//! supervisor for requests of its own and by `exec`, whose streams the supervisor passes on.
//! Whatever the agent sends is hostile: its bytes reach the user's streams as the command's output,
//! but never an error message unsanitised, and none of its frames costs more memory than one of the
//! longest.

mod ask;
mod error;
mod frames;

pub use ask::ask;
pub(crate) use ask::status;
pub use error::AgentError;
pub(crate) use frames::{FromAgent, ToAgent};
