//! Errors of a console at a terminal.

use std::io;

use sandbox::ConsoleError;
use sandbox_host::hint::Hint;
use sandbox_host::terminal::TerminalError;
use thiserror::Error;

/// An error of a console at a terminal.
#[derive(Debug, Error)]
pub(crate) enum AttachError {
    /// The console, or a local stream, failed.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The local terminal failed.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
}

impl AttachError {
    /// Returns the next step for the user.
    pub(crate) fn hint(&self) -> Option<Hint> {
        match self {
            Self::Console(error) => error.hint(),
            Self::Terminal(error) => error.hint(),
        }
    }
}

/// Returns a function for `map_err` that adds the failed action.
pub(super) fn transfer(action: &'static str) -> impl FnOnce(io::Error) -> AttachError {
    move |source| ConsoleError::Transfer { action, source }.into()
}
