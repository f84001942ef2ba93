//! The errors of TLS interception.

use sandbox_host::hint::Hint;
use thiserror::Error;

/// An error of TLS interception. No text contains the value of a secret.
#[derive(Debug, Error)]
pub enum InterceptionError {
    /// The value is empty, or has characters that are invalid in a header.
    #[error("invalid value of secret `{0}`")]
    InvalidValue(String),
    /// The placeholder is not `sandbox-secret-NAME-` with 32 digits.
    #[error("invalid placeholder of secret `{0}`")]
    InvalidPlaceholder(String),
    /// Two secrets have the same name.
    #[error("duplicate secret `{0}`")]
    DuplicateName(String),
    /// A key or a certificate could not be generated.
    #[error("could not generate a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library rejected its configuration.
    #[error("could not configure TLS")]
    Tls(#[from] rustls::Error),
    /// The host trusts no certificate authority.
    #[error("could not find trusted certificate authorities on this host")]
    NoTrustedAuthority,
}

impl InterceptionError {
    /// Returns a hint for the user.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::InvalidValue(_) => "use one line of text, such as a token or a password".into(),
            Self::DuplicateName(_) => Hint::text("give all hosts of a secret together: ")
                .setting("secret", "NAME@HOST,HOST"),
            Self::NoTrustedAuthority => {
                "install `ca-certificates`, or set `SSL_CERT_FILE` to a file with certificates"
                    .into()
            }
            Self::InvalidPlaceholder(_) | Self::Certificate(_) | Self::Tls(_) => return None,
        })
    }
}
