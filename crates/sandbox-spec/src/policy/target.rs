//! The targets of rules.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::error::RuleError;
use super::flow::Peer;
use crate::address::Group;
use crate::domain::{DomainError, DomainPattern};

/// The decision of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Allows the flow.
    Allow,
    /// Refuses the flow.
    Deny,
}

/// The other side of a rule's flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address or a network (CIDR, RFC 4632).
    Network(IpNet),
    /// Names, but not a regular expression. A name of one label ends with a dot in its text.
    Domain(DomainPattern),
    /// A group of addresses.
    Group(Group),
}

impl Target {
    /// Returns whether the target contains the peer's address. A domain contains none.
    ///
    /// An IPv6 address can contain an IPv4 address. The IPv4 address can deny it, but cannot allow
    /// it, since the destination depends on a translator.
    pub fn matches_peer(&self, peer: &Peer, action: Action) -> bool {
        match self {
            Self::Network(network) => {
                peer.addresses()
                    .iter()
                    .any(|address| network.contains(address))
                    || (action == Action::Deny
                        && peer.carried().is_some_and(|v4| network.contains(&v4)))
            }
            Self::Group(group) => group.contains(peer.kind),
            Self::Domain(_) => false,
        }
    }

    /// Parses the target at the start of `text`, the part of `rule` after its `@`. Returns the
    /// target, and the text after the colon that ends it.
    pub(super) fn split<'a>(
        text: &'a str,
        rule: &str,
    ) -> Result<(Self, Option<&'a str>), RuleError> {
        let form = || RuleError::Form(rule.into());
        if let Some(rest) = text.strip_prefix('[') {
            let (inside, behind) = rest.split_once(']').ok_or_else(form)?;
            let (prefix, behind) = match behind.strip_prefix('/') {
                Some(behind) => {
                    let end = behind.find(':').unwrap_or(behind.len());
                    let (prefix, behind) = behind.split_at(end);
                    (Some(prefix), behind)
                }
                None => (None, behind),
            };
            let text = match prefix {
                Some(prefix) => format!("{inside}/{prefix}"),
                None => inside.to_owned(),
            };
            let target = network(&text).ok_or_else(form)??;
            return match behind.strip_prefix(':') {
                Some(rest) => Ok((target, Some(rest))),
                None if behind.is_empty() => Ok((target, None)),
                None => Err(form()),
            };
        }
        // An IPv6 network needs no brackets: its prefix ends it.
        if text.contains('/')
            && let Some(target) = network(text)
        {
            return Ok((target?, None));
        }
        let (target, rest) = match text.split_once(':') {
            Some((target, rest)) => (target, Some(rest)),
            None => (text, None),
        };
        let hexadecimal = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        let looks_like_v6 =
            text.contains("::") || (text.bytes().all(hexadecimal) && text.matches(':').count() > 1);
        if looks_like_v6 {
            return Err(RuleError::Brackets(rule.into()));
        }
        Ok((Self::read(target, rule)?, rest))
    }

    fn read(text: &str, rule: &str) -> Result<Self, RuleError> {
        if let Ok(group) = text.to_ascii_lowercase().parse() {
            return Ok(Self::Group(group));
        }
        if let Some(network) = network(text) {
            return network;
        }
        let refused = |reason| RuleError::Target {
            rule: rule.into(),
            reason,
        };
        // A regular expression can contain the separators of a rule.
        if text.starts_with('^') {
            return Err(refused(DomainError::Form(text.into())));
        }
        let pattern: DomainPattern = text.parse().map_err(refused)?;
        // A mistyped group must not become a rule for a domain that does not exist.
        if is_one_label(&pattern) && !text.ends_with('.') {
            return Err(RuleError::OneLabel(text.into()));
        }
        Ok(Self::Domain(pattern))
    }
}

fn is_one_label(pattern: &DomainPattern) -> bool {
    matches!(pattern, DomainPattern::Exact(name) if !name.as_str().contains('.'))
}

/// Parses an address or a network; an IPv4-mapped address becomes its IPv4 form.
fn network(text: &str) -> Option<Result<Target, RuleError>> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Ok(Target::Network(address.to_canonical().into())));
    }
    let network: IpNet = text.parse().ok()?;
    if network.trunc() != network {
        return Some(Err(RuleError::HostBits(text.into())));
    }
    Some(Ok(Target::Network(network)))
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => {
                let alone = network.prefix_len() == network.max_prefix_len();
                match (network, alone) {
                    (IpNet::V4(network), true) => write!(formatter, "{}", network.addr()),
                    (IpNet::V4(network), false) => write!(formatter, "{network}"),
                    (IpNet::V6(network), true) => write!(formatter, "[{}]", network.addr()),
                    (IpNet::V6(network), false) => write!(formatter, "[{network}]"),
                }
            }
            Self::Domain(pattern) if is_one_label(pattern) => write!(formatter, "{pattern}."),
            Self::Domain(pattern) => write!(formatter, "{pattern}"),
            Self::Group(group) => write!(formatter, "{group}"),
        }
    }
}
