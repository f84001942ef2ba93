//! Why a name or a pattern was refused.

use sandbox_host::hint::Hint;

/// Why a name or a pattern was refused.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum DomainError {
    /// Not a name that DNS could hold (RFC 1035, section 2.3.1; underscores are let through).
    #[error("`{0}` is not a domain name")]
    Form(String),
    /// An address, or what programs read as one: its last label is a number.
    #[error("`{0}` is an address and not a domain name")]
    Address(String),
    /// A star anywhere but as the whole first label.
    #[error("`{0}` is not understood: a `*` stands only in front of a domain")]
    Wildcard(String),
    /// A regular expression that cannot be read or is too large.
    #[error("`{text}` is no usable regular expression: {reason}")]
    Expression {
        /// What was given.
        text: String,
        /// What its parser said, on one line.
        reason: String,
    },
}

impl DomainError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Address(_) => {
                "an address is allowed by a rule, such as `--net-rule allow@192.0.2.1:tcp:443`"
                    .into()
            }
            Self::Form(_) | Self::Wildcard(_) | Self::Expression { .. } => {
                "`example.com` is that name alone, `*.example.com` its subdomains, `.example.com` both"
                    .into()
            }
        })
    }
}
