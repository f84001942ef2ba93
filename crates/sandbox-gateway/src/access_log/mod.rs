//! The access log: one line of JSON for each flow of the guest, in files of bounded size.
//!
//! The policy engine writes it, and the commands read it. A full log file is renamed once, so the
//! log takes at most twice [`LARGEST`].

mod blocked;
mod entry;
mod flow_entry;
mod flow_start;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use blocked::{Blocked, BlockedAttempts, BlockedTarget};
pub use entry::{AskedBy, Entry, Outcome};
pub use flow_entry::FlowEntry;
pub use flow_start::FlowStart;
pub use reader::LogReader;
pub use writer::AccessLog;

/// The file name of the current log, in the sandbox's directory.
pub const FILE: &str = "access.jsonl";
/// The file name of the previous log.
pub const EARLIER_FILE: &str = "access.jsonl.1";
/// The size at which the current log becomes the previous one, in bytes.
pub const LARGEST: u64 = 8 << 20;
