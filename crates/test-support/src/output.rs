//! The result of a command.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// Returns the exit status, or 128 + n after signal n, as in a shell.
pub fn shell_status(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// The exit status and the output of a process that has ended.
#[derive(Debug)]
pub struct Output {
    /// The status, as [`shell_status`] returns it.
    pub status: i32,
    /// The whole standard output.
    pub stdout: String,
    /// The whole standard error.
    pub stderr: String,
}

impl Output {
    /// Runs the command to its end.
    pub fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    /// Fails the test unless the status is `status` and stderr contains these texts.
    #[track_caller]
    pub fn assert_failure(&self, status: i32, texts: &[&str]) {
        assert_eq!(self.status, status, "{self}");
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in\n{self}");
        }
    }

    /// Fails the test unless the status is 0.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.status, 0, "{self}");
        self
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            status: shell_status(output.status),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Shows the status and each stream under its own heading.
impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "status: {}", self.status)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(formatter, "----- {name} -----\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}
