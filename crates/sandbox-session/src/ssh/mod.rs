//! SSH into a running sandbox whose guest agent does not answer, and the keys of the user's
//! `ssh-agent`.
//!
//! The guest is hostile. Its bytes reach the user's streams as output of the command. Error
//! messages and log lines quote the guest without control characters.

mod agent;
mod client;
mod command_line;
mod error;
mod execute;
mod signals;

pub use agent::public_keys;
pub use client::Connection;
pub use command_line::login_shell;
pub use error::{Cause, SshError};
