//! Asking systemd for something.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, ExitStatus};

/// Why systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemctlError {
    #[error("could not execute `systemctl`")]
    Execute { source: io::Error },
    #[error("`systemctl {arguments}` failed: {status}")]
    Failed {
        arguments: String,
        status: ExitStatus,
    },
}

/// Runs systemctl and waits for it.
pub(crate) fn systemctl<A: AsRef<OsStr>>(arguments: &[A]) -> Result<(), SystemctlError> {
    run(Command::new("/usr/bin/systemctl").args(arguments))
}

/// Runs a command that is systemctl, perhaps as somebody else.
pub(crate) fn run(command: &mut Command) -> Result<(), SystemctlError> {
    let status = command
        .status()
        .map_err(|source| SystemctlError::Execute { source })?;
    if status.success() {
        return Ok(());
    }
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    Err(SystemctlError::Failed {
        arguments: words.join(" "),
        status,
    })
}
