//! What can go wrong on this side of a session.

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

/// A failure of what is connected to a command here.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A local stream failed.
    #[error("{stream} failed")]
    LocalStream {
        /// Which one.
        stream: Stream,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The local terminal failed.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
}

impl SessionError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::LocalStream { .. } => None,
            Self::Terminal(error) => error.hint(),
        }
    }
}
