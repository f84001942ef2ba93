//! Failures of the console.

use std::io;
use std::path::PathBuf;

use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use thiserror::Error;

/// A failure of the console.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The console's socket cannot be reached.
    #[error("could not connect to the console at `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("could not {action}")]
    Transfer {
        /// The failed action, as in "could not *read from the console*".
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The console did not print the pattern in time.
    #[error("the console did not print `{pattern}` within {} s", waited.as_secs_f64())]
    Deadline {
        /// The pattern.
        pattern: String,
        /// The deadline.
        waited: std::time::Duration,
    },
    /// The log could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ConsoleError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Connect { .. } => Some(
                Hint::text("run ")
                    .command("list")
                    .then(" to see whether the sandbox is running"),
            ),
            Self::Deadline { .. } => Some(
                Hint::text("run ")
                    .command("logs")
                    .then(" to see its output"),
            ),
            Self::Transfer { .. } => None,
            Self::File(error) => error.hint(),
        }
    }
}

/// Returns a function for `map_err` that adds the failed action.
pub(super) fn transfer(action: &'static str) -> impl FnOnce(io::Error) -> ConsoleError {
    move |source| ConsoleError::Transfer { action, source }
}
