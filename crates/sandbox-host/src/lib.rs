//! The Linux host: directories, private files, locks, processes, terminals, signals, namespaces,
//! and the hints of errors.
//!
//! The lowest crate of the workspace. It uses the system and external crates, and every other crate
//! can use it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bounded_command;
pub mod directories;
pub mod distribution;
pub mod file_stamp;
pub mod files;
pub mod hexadecimal;
pub mod hint;
pub mod lock;
pub mod notices;
pub mod printable;
pub mod process;
pub mod streams;
pub mod terminal;
pub mod user_namespace;
