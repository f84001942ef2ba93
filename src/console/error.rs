//! What can go wrong with a console.

use std::io;
use std::path::PathBuf;

use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use thiserror::Error;

/// A failure of the console.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// Nobody serves the console's socket.
    #[error("the console at `{}` cannot be reached", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("could not {action}")]
    Transfer {
        /// As in "could not *read from the console*".
        action: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The console did not print what was waited for.
    #[error("the console did not print `{pattern}` within {} s", waited.as_secs_f64())]
    Deadline {
        /// What was waited for.
        pattern: String,
        /// For how long.
        waited: std::time::Duration,
    },
    /// The log could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ConsoleError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Connect { .. } => {
                Some(Hint::run("list").then(" tells whether the sandbox still runs"))
            }
            Self::Deadline { .. } => Some(Hint::run("logs").then(" shows what it printed")),
            Self::Transfer { .. } => None,
            Self::File(error) => error.hint(),
        }
    }
}

/// Names the action that failed; made for `map_err`.
pub(super) fn transfer(action: &'static str) -> impl FnOnce(io::Error) -> ConsoleError {
    move |source| ConsoleError::Transfer { action, source }
}
