//! Lets cloud-init run to its end.

use std::io;
use std::process::Command;

use crate::systemctl::{SystemctlError, systemctl};

/// Why cloud-init did not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloudInitError {
    #[error(transparent)]
    Systemctl(#[from] SystemctlError),
    #[error("could not execute `cloud-init`")]
    Execute { source: io::Error },
}

/// Starts cloud-init, waits for its end and returns how it ended (`done`,
/// `error`, …).
pub(crate) fn run() -> Result<String, CloudInitError> {
    systemctl(&["start", "cloud-init.target"])?;
    let output = Command::new("/usr/bin/cloud-init")
        .args(["status", "--wait"])
        .output()
        .map_err(|source| CloudInitError::Execute { source })?;
    Ok(state(&String::from_utf8_lossy(&output.stdout)))
}

/// The state in the output of `cloud-init status --wait`: dots of progress,
/// then `status: STATE`.
fn state(output: &str) -> String {
    output
        .lines()
        .find_map(|line| line.split_once("status: "))
        .map_or("unknown", |(_, state)| state.trim())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        assert_eq!(state("\n....status: done\n"), "done");
        assert_eq!(state("status: error\nx"), "error");
        assert_eq!(state(""), "unknown");
    }
}
