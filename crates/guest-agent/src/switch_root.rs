//! Switches to the root file system: moves the mounts, frees the initrd and
//! executes systemd.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use rustix::io::Errno;

use crate::modules;

/// The program that becomes PID 1: systemd.
const INIT: &str = "/sbin/init";

/// A step of the switch that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchRootError {
    /// The kernel refused to move a mount.
    #[error("could not move the mount `{path}` into the new root")]
    Move { path: String, source: Errno },
    /// The kernel refused the new root.
    #[error("could not switch to the new root")]
    Switch { source: Errno },
    /// The kernel refused to execute systemd.
    #[error("could not execute `{INIT}` of the new root")]
    Execute { source: io::Error },
}

/// Makes `root` the root directory and moves `mounts` (absolute paths) into it.
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

/// Executes the init of the new root. Returns only if that failed.
pub(crate) fn execute_init() -> SwitchRootError {
    SwitchRootError::Execute {
        source: Command::new(INIT).env_clear().env("TERM", "linux").exec(),
    }
}

/// Removes the initrd's files, which otherwise stay in memory. An error only
/// wastes a few megabytes, so it is ignored.
fn free_initrd() {
    let _ = fs::remove_dir_all(modules::DIRECTORY);
    let _ = fs::remove_file("/init");
}
