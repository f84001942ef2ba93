//! Errors of the console.

use sandbox_host::hint::Hint;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use sandbox_host::files::FileError;
use sandbox_host::terminal::TerminalError;

/// Errors of the console.
#[derive(Debug, Error)]
pub(crate) enum ConsoleError {
    /// The console's socket could not be connected.
    #[error("could not connect to the console at `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The connection or a local stream failed.
    #[error("could not {action}")]
    Transfer {
        /// The failed action, such as "read from the console".
        action: &'static str,
        /// The error of the system call.
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
    /// Returns the fix, if one is known.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::Connect { .. } => {
                Some("run `sandbox list` to see whether the sandbox is running".into())
            }
            Self::Transfer { .. } => None,
            Self::File(error) => error.hint(),
            Self::Terminal(error) => error.hint(),
        }
    }
}

/// Returns a closure for `map_err` that names the failed action.
pub(super) fn transfer(action: &'static str) -> impl FnOnce(io::Error) -> ConsoleError {
    move |source| ConsoleError::Transfer { action, source }
}
