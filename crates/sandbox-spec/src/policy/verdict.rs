//! What was decided, and why, in the words of the access log.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Preset;
use crate::domain::{DomainName, DomainPattern};

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleName {
    /// A rule of `--net-rule`, as text.
    Rule(String),
    /// The preset.
    Preset(Preset),
    /// An entry of the list of allowed domains.
    Listed(DomainPattern),
    /// A pattern that was allowed until the sandbox stops.
    Once(DomainPattern),
    /// Proxy mode, which allows nothing that is not on the list.
    Proxy,
    /// Names are resolved by the gateway and by nobody else.
    Resolvers,
    /// What a published port is for.
    Published,
    /// Secrets go to their own hosts.
    Secrets,
    /// What the gateway has room for.
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

/// Why something was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A rule denies it.
    Rule,
    /// No rule allows it, and the preset does not.
    Preset,
    /// The name is not on the list.
    NotListed,
    /// In proxy mode, only the ports of the web are looked at.
    NotTheWeb,
    /// The name is not denied, but the address behind it is (private, the host's own).
    AddressBehindName,
    /// Another resolver than the gateway.
    OtherResolver,
    /// QUIC, in proxy mode: its names cannot be read.
    Quic,
    /// A type of record that proxy mode does not forward.
    RecordType,
    /// A question that could not be a host's name.
    InvalidName,
    /// An address where proxy mode needs a name.
    AddressLiteral,
    /// No name in the first bytes: no SNI, no Host header.
    NoName,
    /// The name is hidden: an encrypted or fragmented ClientHello.
    HiddenName,
    /// Two names that should be the same are not, or the address is not one that DNS gave for it.
    NameMismatch,
    /// Neither TLS nor HTTP, or malformed.
    Malformed,
    /// A secret on its way to a host that is not its own, or in clear.
    SecretElsewhere,
    /// The other side could not be verified or reached.
    Upstream,
    /// More than the bounds of the gateway.
    Bounds,
}

impl Reason {
    /// The explanation for a person, as in "denied: …".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "a rule denies it",
            Self::Preset => "the network preset does not allow it",
            Self::NotListed => "the name is not on the list",
            Self::NotTheWeb => "only ports 80 and 443 pass the proxy",
            Self::AddressBehindName => "the address behind the name is not allowed",
            Self::OtherResolver => "names are resolved by the gateway only",
            Self::Quic => "QUIC hides names",
            Self::RecordType => "this type of DNS record is not forwarded",
            Self::InvalidName => "not a host's name",
            Self::AddressLiteral => "an address instead of a name",
            Self::NoName => "the connection names no host",
            Self::HiddenName => "the connection hides the name of its host",
            Self::NameMismatch => "the names of the host do not agree",
            Self::Malformed => "neither TLS nor HTTP",
            Self::SecretElsewhere => "a secret would leave for another host",
            Self::Upstream => "the other side could not be reached or verified",
            Self::Bounds => "too much at once",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What is to be done with a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let it through.
    Allow {
        /// Where to connect: the address that was asked for, or the host's loopback in place of
        /// the gateway. Port 0 for ICMP.
        to: SocketAddr,
        /// What allowed it.
        rule: RuleName,
        /// The name that DNS gave the address for; the newest, if several.
        name: Option<DomainName>,
    },
    /// Proxy mode, TCP ports 80 and 443: accept it and decide by the name in its first bytes.
    Inspect,
    /// Refuse it.
    Deny {
        /// What denied it.
        rule: RuleName,
        /// Why.
        reason: Reason,
    },
}

/// What is to be done with a flow to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedVerdict {
    /// It may be resolved, and connected to as far as its addresses are allowed.
    Allow {
        /// What allowed it.
        rule: RuleName,
    },
    /// Refuse it.
    Deny {
        /// What denied it.
        rule: RuleName,
        /// Why.
        reason: Reason,
    },
}

impl NamedVerdict {
    /// True for [`NamedVerdict::Allow`].
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}
