//! The list of domains that proxy mode allows: its format, its file, its default.

mod edit;
mod list;
mod watched;

#[cfg(test)]
mod tests;

pub use edit::{Added, ListFile, ListedEntry, OPEN_TO_UPLOADS, Removed};
pub use list::{AllowList, Fault};
pub use watched::WatchedList;

/// The list's file name in a sandbox's directory.
pub const FILE: &str = "allowlist.txt";

/// What a new sandbox's list holds: what developers need, by purpose.
pub const DEFAULT: &str = include_str!("default.txt");
