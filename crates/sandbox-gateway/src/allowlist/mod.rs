//! The allowlist of proxy mode: its format, its file and its default.
//!
//! The policy engine reads it, and the `sandbox proxy` commands edit it.

mod edit;
mod list;
mod reloading;

#[cfg(test)]
mod tests;

pub use edit::{Added, ListFile, ListedEntry, OPEN_TO_UPLOADS, Removed};
pub use list::{AllowList, Fault};
pub use reloading::ReloadingList;

/// The file name of the allowlist, in the sandbox's directory.
pub const FILE: &str = "allowlist.txt";

/// The allowlist of a new sandbox: the domains that developers need, by purpose.
pub const DEFAULT: &str = include_str!("default.txt");
