//! The exit status of a command in the guest.

use std::fmt;

/// The exit status of a command in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus(Ending);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Exited(u8),
    Killed(u8),
}

impl ExitStatus {
    pub(crate) fn exited(status: u8) -> Self {
        Self(Ending::Exited(status))
    }

    pub(crate) fn killed(signal: u8) -> Self {
        Self(Ending::Killed(signal))
    }

    /// Returns whether the command exited with status 0.
    pub fn success(self) -> bool {
        self.code() == Some(0)
    }

    /// Returns the status that the command exited with; `None` if a signal killed it.
    pub fn code(self) -> Option<u8> {
        match self.0 {
            Ending::Exited(status) => Some(status),
            Ending::Killed(_) => None,
        }
    }

    /// Returns the number of the signal that killed the command (signal(7)); `None` if it exited.
    pub fn signal(self) -> Option<u8> {
        match self.0 {
            Ending::Exited(_) => None,
            Ending::Killed(signal) => Some(signal),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ending::Exited(status) => write!(formatter, "exit status {status}"),
            Ending::Killed(signal) => write!(formatter, "signal {signal}"),
        }
    }
}

/// The exit status and the output of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// The output.
    pub stdout: Vec<u8>,
    /// The error output; empty if the command had a terminal.
    pub stderr: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_a_killed_command_has_a_signal_and_no_code() {
        let status = ExitStatus::killed(9);
        assert_eq!((status.code(), status.signal()), (None, Some(9)));
        assert!(!status.success() && ExitStatus::exited(0).success());
        assert_eq!(status.to_string(), "signal 9");
    }
}
