//! Decisions and their reasons, in the words of the access log.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::preset::Preset;
use crate::domain::{DomainName, DomainPattern};

/// The source of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleName {
    /// A rule of `--net-rule`, as text.
    Rule(String),
    /// The preset.
    Preset(Preset),
    /// An entry of the allowlist.
    Listed(DomainPattern),
    /// A pattern that the user allowed until the sandbox stops.
    Once(DomainPattern),
    /// Proxy mode, which allows only the names on the allowlist.
    Proxy,
    /// The gateway, since no other resolver is allowed.
    Resolvers,
    /// A published port.
    Published,
    /// The hosts of the secrets.
    Secrets,
    /// The gateway's bounds.
    Bounds,
}

impl fmt::Display for RuleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(text) => formatter.write_str(text),
            Self::Preset(preset) => write!(formatter, "network {preset}"),
            Self::Listed(pattern) => write!(formatter, "allowlist {pattern}"),
            Self::Once(pattern) => write!(formatter, "once {pattern}"),
            Self::Proxy => formatter.write_str("proxy"),
            Self::Resolvers => formatter.write_str("resolvers"),
            Self::Published => formatter.write_str("published"),
            Self::Secrets => formatter.write_str("secrets"),
            Self::Bounds => formatter.write_str("bounds"),
        }
    }
}

/// Why the gateway denied a flow or a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// A rule denies the flow.
    Rule,
    /// Neither a rule nor the preset allows the flow.
    Preset,
    /// The name is not on the allowlist.
    NotListed,
    /// Proxy mode allows only TCP ports 80 and 443.
    NotTheWeb,
    /// The name is allowed, but the address behind it is not (private, or the host's own).
    AddressBehindName,
    /// The flow goes to another resolver than the gateway.
    OtherResolver,
    /// Proxy mode cannot read the names of QUIC.
    Quic,
    /// Proxy mode does not forward this type of DNS record.
    RecordType,
    /// The question does not contain a valid host name.
    InvalidName,
    /// The request has an address, and proxy mode needs a name.
    AddressLiteral,
    /// The first bytes contain no name: no SNI, no Host header.
    NoName,
    /// An encrypted or fragmented ClientHello hides the name.
    HiddenName,
    /// Two names of one request differ, or DNS did not return the address for the name.
    NameMismatch,
    /// The bytes are neither TLS nor HTTP, or malformed.
    Malformed,
    /// A secret would go to another host than its own, or without TLS.
    SecretElsewhere,
    /// The gateway could not reach or verify the host.
    Upstream,
    /// The flow exceeds the gateway's bounds.
    Bounds,
}

impl Reason {
    /// Returns the explanation for a user, as in "denied: …".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "a rule denies it",
            Self::Preset => "the network preset does not allow it",
            Self::NotListed => "the name is not on the allowlist",
            Self::NotTheWeb => "the proxy allows only ports 80 and 443",
            Self::AddressBehindName => "the address behind the name is not allowed",
            Self::OtherResolver => "only the gateway resolves names",
            Self::Quic => "QUIC hides names",
            Self::RecordType => "this type of DNS record is not forwarded",
            Self::InvalidName => "invalid host name",
            Self::AddressLiteral => "an address in place of a name",
            Self::NoName => "the connection contains no host name",
            Self::HiddenName => "the connection hides its host name",
            Self::NameMismatch => "the host names differ",
            Self::Malformed => "neither TLS nor HTTP",
            Self::SecretElsewhere => "a secret would go to another host",
            Self::Upstream => "the host could not be reached or verified",
            Self::Bounds => "a limit of the gateway is reached",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The decision about a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allow the flow.
    Allow {
        /// The destination: the requested address, or the host's loopback for the gateway. The
        /// port is 0 for ICMP.
        to: SocketAddr,
        /// The source of the decision.
        rule: RuleName,
        /// The newest name for which DNS returned the address.
        name: Option<DomainName>,
    },
    /// Proxy mode, TCP ports 80 and 443: accept it and decide by the name in its first bytes.
    Intercept,
    /// Refuse it.
    Deny {
        /// The source of the decision.
        rule: RuleName,
        /// The reason.
        reason: Reason,
    },
}

/// The decision about a flow to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedVerdict {
    /// Resolve the name, and connect to those of its addresses that are allowed.
    Allow {
        /// The source of the decision.
        rule: RuleName,
    },
    /// Refuse the flow.
    Deny {
        /// The source of the decision.
        rule: RuleName,
        /// The reason.
        reason: Reason,
    },
}

impl NamedVerdict {
    /// Returns whether the name is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}
