//! What the operating system of the host offers, in the words of this
//! product: directories, private files, locks, processes, terminals, signals.
//!
//! The bottom room: it may use the system and small crates, nothing of this
//! crate. Every other room may use it.

pub mod bounded_command;
pub mod directories;
pub mod distribution;
pub mod file_stamp;
pub mod files;
pub mod lock;
pub mod notices;
pub mod printable;
pub mod process;
pub mod streams;
pub mod terminal;
pub mod user_namespace;
