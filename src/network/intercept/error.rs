//! What can go wrong before and while TLS connections are intercepted.

use std::io;

use thiserror::Error;

/// A failure to prepare the interception or to reach the real host. None of its texts holds a
/// secret's value.
#[derive(Debug, Error)]
pub enum InterceptError {
    /// Not a name that a shell's variable could have.
    #[error("`{0}` is no name for a secret")]
    SecretName(String),
    /// The value is empty or has bytes that no header may hold (RFC 9110, section 5.5).
    #[error("the value of secret `{0}` is empty or holds control characters")]
    SecretValue(String),
    /// A secret without a host would never be used.
    #[error("secret `{0}` has no host")]
    NoHost(String),
    /// The same name twice.
    #[error("secret `{0}` is given twice")]
    Twice(String),
    /// The system gives no random bytes.
    #[error("could not get random bytes")]
    Random(#[source] io::Error),
    /// A key or a certificate could not be made.
    #[error("could not make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused its configuration.
    #[error("could not set up TLS")]
    Tls(#[from] rustls::Error),
    /// The host has no certificates of authorities.
    #[error("this host has no trusted certificate authorities")]
    NoRoots,
}

impl InterceptError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::SecretName(_) => {
                "letters, digits and `_`, not beginning with a digit: `--secret API_TOKEN@api.example.com`"
                    .into()
            }
            Self::SecretValue(name) => {
                format!("set the variable `{name}` to the bare value, without a newline")
            }
            Self::NoHost(name) => format!("name the hosts that may get it: `--secret {name}@api.example.com`"),
            Self::Twice(_) => "several hosts go into one option: `--secret NAME@HOST,HOST`".into(),
            Self::NoRoots => {
                "install `ca-certificates`, or let `SSL_CERT_FILE` name a file with them".into()
            }
            Self::Random(_) | Self::Certificate(_) | Self::Tls(_) => return None,
        })
    }
}
