//! One line of JSON for each flow of the guest, in a file of bounded size.

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

/// The log's file name in a sandbox's directory.
pub const FILE: &str = "access.jsonl";
/// The one before it.
pub const EARLIER_FILE: &str = "access.jsonl.1";
/// At this size the log becomes the earlier one, in bytes.
pub const LARGEST: u64 = 8 << 20;
