//! Failures of a sandbox's keys and its alias.

use std::path::PathBuf;

use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use thiserror::Error;

/// A failure of keys or of the alias for OpenSSH.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system returned no random numbers.
    #[error("could not get random numbers from the system")]
    Random(#[source] std::io::Error),
    /// A new key could not be encoded.
    #[error("could not create an SSH key")]
    Generate(#[source] ssh_key::Error),
    /// A key file does not contain a key.
    #[error("`{}` does not contain an SSH key", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ssh_key::Error,
    },
}

impl KeyError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::Parse { .. } => Some(
                Hint::text("run ")
                    .command("stop")
                    .then(" and start the sandbox again: each start creates new keys"),
            ),
            Self::Generate(_) | Self::Random(_) => None,
        }
    }
}
