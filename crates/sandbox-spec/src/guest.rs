//! Constants of every guest.

/// The uid and gid of the user `dev` in every guest.
pub const DEV_ID: u32 = 1000;

/// Where the workspace is mounted.
pub const WORKSPACE: &str = "/home/dev/workspace";
