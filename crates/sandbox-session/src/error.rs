//! Errors on the host's side of a session.

use sandbox_host::hint::Hint;
use std::io;

use thiserror::Error;

use sandbox_host::terminal::TerminalError;

/// A local stream of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl std::fmt::Display for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Input => "standard input",
            Self::Output => "standard output",
            Self::Error => "standard error",
        })
    }
}

/// Errors of the local streams and the terminal of a command.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A local stream failed.
    #[error("{stream} failed")]
    LocalStream {
        /// The stream.
        stream: Stream,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The local terminal failed.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
}

impl SessionError {
    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::LocalStream { .. } => None,
            Self::Terminal(error) => error.hint(),
        }
    }
}
