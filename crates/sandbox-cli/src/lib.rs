//! The command line of `sandbox`: clap types, settings, wording, one file a verb.
//!
//! It is the first user of the library `sandbox`. What a command does is the library's; what a
//! command reads and prints is here.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;
mod commands;
mod console;
mod output;
#[doc(hidden)]
pub mod session;
mod settings;
#[doc(hidden)]
pub mod ssh;

pub use commands::main;

/// Returns the definition of the whole command line, for manual pages and completions.
pub fn command() -> clap::Command {
    <cli::Cli as clap::CommandFactory>::command()
}
