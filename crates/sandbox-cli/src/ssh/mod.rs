//! SSH into a running sandbox, where the guest agent does not answer; and the keys of the user's own
//! `ssh-agent`.
//!
//! Whatever the far end sends is hostile: its bytes reach the user's streams as the command's
//! output, but never an error message or a log line unsanitised.

pub(crate) mod agent;
mod client;
mod command_line;
mod error;
mod execute;
mod signals;

pub use agent::public_keys;
pub use client::Connection;
pub use command_line::login_shell;
pub use error::{Cause, SshError};
