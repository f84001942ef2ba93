//! SSH into a running sandbox: its keys, connections that carry sessions, and the alias file for
//! the user's own `ssh`.
//!
//! May use `session`, `host` and crates. Knows nothing of virtual machines: an [`Endpoint`] is all it takes.
//! Used by `sandbox` (keys of a start, alias of a running sandbox) and `commands` (`exec`, `run`,
//! shell, `ssh`, `info`). Whatever the far end sends is hostile: its bytes reach the user's streams
//! as the command's output, but never an error message or a log line unsanitised.

pub mod agent;
pub mod alias;
mod client;
pub mod command_line;
mod error;
mod execute;
mod include;
pub mod keys;
mod openssh;
mod signals;

pub use client::{Connection, Endpoint};
pub use command_line::login_shell;
pub use error::{Cause, SshError};
pub use openssh::openssh_command;
