//! What can go wrong with a console.

use sandbox_host::hint::Hint;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use sandbox_host::files::FileError;
use sandbox_host::terminal::TerminalError;

/// A failure of the console.
#[derive(Debug, Error)]
pub(crate) enum ConsoleError {
    /// Nobody serves the console's socket.
    #[error("the console at `{}` cannot be reached", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The connection or a local stream broke.
    #[error("could not {action}")]
    Transfer {
        /// As in "could not *read from the console*".
        action: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The log could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The local terminal failed.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
}

impl ConsoleError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::Connect { .. } => {
                Some("`sandbox list` tells whether the sandbox still runs".into())
            }
            Self::Transfer { .. } => None,
            Self::File(error) => error.hint(),
            Self::Terminal(error) => error.hint(),
        }
    }
}

/// Names the action that failed; made for `map_err`.
pub(super) fn transfer(action: &'static str) -> impl FnOnce(io::Error) -> ConsoleError {
    move |source| ConsoleError::Transfer { action, source }
}
