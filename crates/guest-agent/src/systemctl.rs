//! Runs systemctl(1).

use std::ffi::OsStr;
use std::io;
use std::process::{Command, ExitStatus};

/// A systemctl command that failed.
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

/// Runs systemctl with these arguments and waits for its end.
pub(crate) fn systemctl<A: AsRef<OsStr>>(arguments: &[A]) -> Result<(), SystemctlError> {
    run(command().args(arguments))
}

/// Returns a command for systemctl. The caller adds arguments and user.
pub(crate) fn command() -> Command {
    Command::new("/usr/bin/systemctl")
}

/// Runs a command from [`command`] and waits for its end.
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
