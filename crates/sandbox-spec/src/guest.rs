//! Constants of all guests.

/// The uid and gid of the user `dev` in every guest.
pub const DEV_ID: u32 = 1000;

/// The mount point of the workspace.
pub const WORKSPACE: &str = "/home/dev/workspace";
