//! Hands the machine over to Debian: moves the mounts, frees the initrd and
//! starts systemd.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use rustix::io::Errno;

use crate::modules;

/// The program that becomes PID 1.
const INIT: &str = "/sbin/init";

/// Why Debian was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchRootError {
    /// A mount could not be moved into the new root.
    #[error("could not move the mount `{path}` into the new root")]
    Move { path: String, source: Errno },
    /// The new root could not be made the root.
    #[error("could not switch to the new root")]
    Switch { source: Errno },
    /// systemd could not be executed.
    #[error("could not execute `{INIT}` of the new root")]
    Execute { source: io::Error },
}

/// Makes `root` the root directory and takes `mounts` (absolute paths) along.
pub(crate) fn enter(root: &Path, mounts: &[&str]) -> Result<(), SwitchRootError> {
    for path in mounts {
        let target = root.join(path.trim_start_matches('/'));
        rustix::mount::mount_move(*path, target).map_err(|source| SwitchRootError::Move {
            path: (*path).to_owned(),
            source,
        })?;
    }
    free_initrd();
    let switch = || {
        rustix::process::chdir(root)?;
        rustix::mount::mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    switch().map_err(|source| SwitchRootError::Switch { source })
}

/// Executes the new root's init. Returns only if that failed.
pub(crate) fn execute_init() -> SwitchRootError {
    SwitchRootError::Execute {
        source: Command::new(INIT).env_clear().env("TERM", "linux").exec(),
    }
}

/// The initrd's files stay in memory for as long as they exist. Losing a few
/// megabytes is not worth failing for.
fn free_initrd() {
    let _ = fs::remove_dir_all(modules::DIRECTORY);
    let _ = fs::remove_file("/init");
}
