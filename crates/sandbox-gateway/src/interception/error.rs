//! What can go wrong before and while TLS connections are intercepted.

use sandbox_host::hint::Hint;
use thiserror::Error;

/// A failure to prepare the interception or to reach the real host. None of its texts holds a
/// secret's value.
#[derive(Debug, Error)]
pub enum InterceptionError {
    /// The value is empty or has characters that no header may hold.
    #[error("the value of secret `{0}` cannot stand in a header")]
    InvalidValue(String),
    /// The placeholder is not of the form `sandbox-secret-NAME-` and 32 digits.
    #[error("the placeholder of secret `{0}` is not one")]
    InvalidPlaceholder(String),
    /// The same name twice.
    #[error("secret `{0}` is given twice")]
    DuplicateName(String),
    /// A key or a certificate could not be made.
    #[error("could not make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused its configuration.
    #[error("could not set up TLS")]
    Tls(#[from] rustls::Error),
    /// The host has no certificates of authorities.
    #[error("this host has no trusted certificate authorities")]
    NoTrustedAuthority,
}

impl InterceptionError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::InvalidValue(_) => {
                "a secret is one line of text, such as a token or a password".into()
            }
            Self::DuplicateName(_) => {
                "several hosts go into one option: `--secret NAME@HOST,HOST`".into()
            }
            Self::NoTrustedAuthority => {
                "install `ca-certificates`, or let `SSL_CERT_FILE` name a file with them".into()
            }
            Self::InvalidPlaceholder(_) | Self::Certificate(_) | Self::Tls(_) => return None,
        })
    }
}
