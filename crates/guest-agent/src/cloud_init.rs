//! Runs cloud-init.

use std::io;
use std::process::Command;

use crate::systemctl::{SystemctlError, systemctl};

/// A failure to run cloud-init.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloudInitError {
    #[error(transparent)]
    Systemctl(#[from] SystemctlError),
    #[error("could not execute `cloud-init`")]
    Execute { source: io::Error },
}

/// Starts cloud-init, waits for its end and returns its final status (`done`,
/// `error`, …).
pub(crate) fn run() -> Result<String, CloudInitError> {
    systemctl(&["start", "cloud-init.target"])?;
    let output = Command::new("/usr/bin/cloud-init")
        .args(["status", "--wait"])
        .output()
        .map_err(|source| CloudInitError::Execute { source })?;
    Ok(final_status(&String::from_utf8_lossy(&output.stdout)))
}

/// Returns the status in the output of `cloud-init status --wait`: dots for
/// progress, then `status: STATUS`.
fn final_status(output: &str) -> String {
    output
        .lines()
        .find_map(|line| line.split_once("status: "))
        .map_or("unknown", |(_, status)| status.trim())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_status_follows_the_dots() {
        assert_eq!(final_status("\n....status: done\n"), "done");
        assert_eq!(final_status("status: error\nx"), "error");
        assert_eq!(final_status(""), "unknown");
    }
}
