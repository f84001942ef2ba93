//! Errors in the network settings of a sandbox, before its first flow.

use std::io;

use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use sandbox_spec::domain::DomainError;
use sandbox_spec::policy::RuleError;
use sandbox_spec::publish::PublishError;
use sandbox_spec::secret::SecretError;

/// An error in the network settings of a sandbox, or of the host that they need.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The access log or the allowlist could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The host's own addresses could not be read. The policy needs them to deny access to the
    /// host.
    #[error("could not read the addresses of the host's interfaces")]
    HostAddresses(#[source] io::Error),
    /// A rule or a preset is invalid.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A domain is invalid.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// A published port is invalid.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A secret is invalid.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl NetworkError {
    /// Returns a hint for the user.
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
