//! Errors of domain names and patterns.

use sandbox_host::hint::Hint;

/// Why a domain name or a pattern is invalid.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DomainError {
    /// The text is not a name in DNS (RFC 1035, section 2.3.1, with underscores).
    #[error("invalid domain name `{0}`")]
    Form(String),
    /// The text is an address, or programs parse it as one: its last label is a number.
    #[error("invalid domain name `{0}`: it is an address")]
    Address(String),
    /// A star is not the whole first label.
    #[error("invalid domain pattern `{0}`: `*` can only be the first label")]
    Wildcard(String),
    /// The regular expression is malformed or too large.
    #[error("invalid regular expression `{text}`: {reason}")]
    Expression {
        /// The expression.
        text: String,
        /// The error of its parser, on one line.
        reason: String,
    },
}

impl DomainError {
    /// Returns a hint with valid patterns, or with a rule for an address.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Address(_) => {
                Hint::text("allow an address by a rule, such as ")
                    .setting("net-rule", "allow@192.0.2.1:tcp:443")
            }
            Self::Form(_) | Self::Wildcard(_) | Self::Expression { .. } => {
                "give `example.com` for that name, `*.example.com` for its subdomains, `.example.com` for both"
                    .into()
            }
        })
    }
}
