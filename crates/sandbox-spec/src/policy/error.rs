//! Errors of rules and presets.

use sandbox_host::hint::Hint;

use crate::address::Group;
use crate::domain::DomainError;

/// Why a rule or a preset is invalid.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleError {
    /// The rule does not have its form.
    #[error("invalid rule `{0}`: expected `allow|deny[:out|in]@TARGET[:tcp|udp|icmp][:PORTS]`")]
    Form(String),
    /// An IPv6 address without brackets, so that its end and a port look the same.
    #[error("invalid rule `{0}`: an IPv6 address needs brackets")]
    Brackets(String),
    /// The target is not a group, an address or a domain.
    #[error("invalid rule `{rule}`: {reason}")]
    Target {
        /// The whole rule.
        rule: String,
        /// The error of the target as a domain.
        reason: DomainError,
    },
    /// The target is not a group or an address, and a domain would contain a dot.
    #[error("invalid rule target `{0}`: it is not a group, and a domain contains a dot")]
    OneLabel(String),
    /// Bits after the prefix are set, as in `10.0.0.1/8`.
    #[error("invalid network `{0}`: bits after its prefix are set")]
    HostBits(String),
    /// A port is not 1 to 65535, or a range ends before it starts.
    #[error("invalid ports `{0}`")]
    Ports(String),
    /// A rule for ICMP has ports.
    #[error("invalid rule `{0}`: ICMP has no ports")]
    PortsOfIcmp(String),
    /// A rule for connections to the guest has a domain: their sources have no name.
    #[error("invalid rule `{0}`: connections to the guest come from addresses, not from domains")]
    DomainComesIn(String),
    /// The text is not a preset.
    #[error("invalid network preset `{0}`")]
    Preset(String),
}

impl RuleError {
    /// Returns a hint with a valid value.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form(_) => Hint::text("give, for example, ")
                .setting("net-rule", "allow@10.1.0.0/16:tcp:443")
                .then(" or ")
                .setting("net-rule", "deny@*.example.com"),
            Self::Brackets(_) => {
                Hint::text("give, for example, ").setting("net-rule", "allow@[2001:db8::1]:tcp:443")
            }
            Self::Target { reason, .. } => return reason.hint(),
            Self::OneLabel(_) => {
                let groups = Group::ALL.map(|group| format!("`{group}`")).join(", ");
                format!("give one of {groups}, or end a host of one label with a dot, as in `nas.`")
                    .into()
            }
            Self::HostBits(_) => "give the network's first address, as in `10.0.0.0/8`".into(),
            Self::Ports(_) => "give, for example, `443`, `8000-8010` or `80,443`".into(),
            Self::PortsOfIcmp(_) => "remove the ports".into(),
            Self::DomainComesIn(_) => "give an address, a network or a group instead".into(),
            Self::Preset(_) => "choose `none`, `public`, `private` or `all`".into(),
        })
    }
}
