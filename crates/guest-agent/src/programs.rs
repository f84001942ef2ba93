//! Paths of the guest's programs that more than one module starts.

/// This program in the running guest. `/run` is a tmpfs.
pub(crate) const AGENT_PATH: &str = "/run/sandbox/guest-agent";

/// The program of runuser(1).
pub(crate) const RUNUSER_PATH: &str = "/usr/sbin/runuser";
