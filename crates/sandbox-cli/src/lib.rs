//! The command line of `sandbox`: clap types, settings, output, and one file per verb.
//!
//! The library `sandbox` does the work of a command. This crate parses the input and prints the
//! output.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;
mod commands;
mod console;
mod output;
mod settings;

pub use commands::main;

/// Returns the clap definition of the command line, for manual pages and completions.
pub fn command() -> clap::Command {
    <cli::Cli as clap::CommandFactory>::command()
}
