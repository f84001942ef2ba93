//! What can go wrong with the network before any flow is decided.

use sandbox_host::hint::Hint;
use std::io;

use sandbox_host::files::FileError;
use sandbox_spec::domain::DomainError;
use sandbox_spec::policy::RuleError;
use sandbox_spec::publish::PublishError;
use sandbox_spec::secret::SecretError;

/// A failure of the network's side of a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The access log or the list of allowed domains could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The host does not tell its own addresses, which must be known to be closed.
    #[error("could not read the addresses of this machine's interfaces")]
    HostAddresses(#[source] io::Error),
    /// A rule or a preset that cannot be read.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A domain that cannot be read.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// A published port that cannot be read.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A secret that cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl NetworkError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::HostAddresses(_) => None,
            Self::Rule(error) => error.hint(),
            Self::Domain(error) => error.hint(),
            Self::Publish(error) => error.hint(),
            Self::Secret(error) => error.hint(),
        }
    }
}
