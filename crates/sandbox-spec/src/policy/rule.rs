//! `allow|deny[:out|in]@TARGET[:tcp|udp|icmp][:PORTS]`.

use sandbox_host::hint::Hint;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Flow;
use super::ports::Ports;
use super::target::Target;
use crate::address::Group;
use crate::domain::DomainError;

/// Why a rule or a preset was refused.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum RuleError {
    /// Not of the form.
    #[error("`{0}` is not of the form `allow|deny[:out|in]@TARGET[:tcp|udp|icmp][:PORTS]`")]
    Form(String),
    /// An IPv6 address whose end cannot be told from a port.
    #[error("the IPv6 address of `{0}` is not in brackets")]
    Brackets(String),
    /// The target is no group, no address and no domain.
    #[error("the target of `{rule}` is not usable: {source}")]
    Target {
        /// The whole rule.
        rule: String,
        /// What is wrong with the target as a domain.
        source: DomainError,
    },
    /// Neither a group nor an address, and too short for a domain.
    #[error("`{0}` is no group of addresses, and a domain would have a dot")]
    OneLabel(String),
    /// Bits behind the prefix, as in `10.0.0.1/8`.
    #[error("`{0}` has bits set behind its prefix")]
    HostBits(String),
    /// A port out of 1 to 65535, or a range that ends before it begins.
    #[error("`{0}` are no ports")]
    Ports(String),
    /// ICMP has no ports.
    #[error("`{0}` gives ports to ICMP, which has none")]
    PortsOfIcmp(String),
    /// Who connects to a published port has an address and no name.
    #[error("`{0}` names a domain, but connections to the guest come from addresses")]
    DomainComesIn(String),
    /// No preset.
    #[error("`{0}` is not a network preset")]
    Preset(String),
}

impl RuleError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form(_) => {
                "as in `--net-rule allow@10.1.0.0/16:tcp:443` or `--net-rule deny@*.example.com`"
                    .into()
            }
            Self::Brackets(_) => "as in `--net-rule allow@[2001:db8::1]:tcp:443`".into(),
            Self::Target { source, .. } => return source.hint(),
            Self::OneLabel(_) => {
                let groups = Group::ALL.map(|group| format!("`{group}`")).join(", ");
                format!(
                    "groups are {groups}; a host of one label is written with a dot, as in `nas.`"
                )
                .into()
            }
            Self::HostBits(_) => "give the network's first address, as in `10.0.0.0/8`".into(),
            Self::Ports(_) => "as in `443`, `8000-8010` or `80,443`".into(),
            Self::PortsOfIcmp(_) => "leave the ports out".into(),
            Self::DomainComesIn(_) => "name the address, the network or the group instead".into(),
            Self::Preset(_) => "choose `none`, `public`, `private` or `all`".into(),
        })
    }
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Refuse it.
    Deny,
}

/// Who opens a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The guest.
    #[default]
    Out,
    /// Somebody outside, to a published port.
    In,
}

/// What carries a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 echo.
    Icmp,
}

impl Transport {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl FromStr for Transport {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Tcp, Self::Udp, Self::Icmp]
            .into_iter()
            .find(|transport| transport.as_str() == text)
            .ok_or(())
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One rule of a [`super::Policy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// What to do.
    pub action: Action,
    /// For flows from or to the guest.
    pub direction: Direction,
    /// The other side.
    pub target: Target,
    /// What carries the flow; any if none.
    pub transport: Option<Transport>,
    /// The ports it goes to: the other side's, for [`Direction::In`] the guest's. Any if none.
    pub ports: Option<Ports>,
}

impl Rule {
    /// Whether the rule says something of the flow.
    pub fn matches(&self, flow: &Flow<'_>) -> bool {
        let by_peer = || {
            flow.peer
                .is_some_and(|peer| self.target.matches_peer(&peer, self.action))
        };
        let by_name = || matches!(&self.target, Target::Domain(pattern) if (flow.named)(pattern));
        self.direction == flow.direction
            && self.covers(flow.transport, flow.port)
            && (by_peer() || by_name())
    }

    /// Whether transport and port are ones of the rule.
    fn covers(&self, transport: Transport, port: u16) -> bool {
        match &self.ports {
            // Ports without a transport are those of TCP and UDP.
            Some(ports) => {
                transport != Transport::Icmp
                    && self.transport.is_none_or(|own| own == transport)
                    && ports.contains(port)
            }
            None => self.transport.is_none_or(|own| own == transport),
        }
    }

    /// Whether every transport and port is meant.
    pub fn is_for_every_flow(&self) -> bool {
        self.transport.is_none() && self.ports.is_none()
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let form = || RuleError::Form(text.into());
        let (head, rest) = text.split_once('@').ok_or_else(form)?;
        let (action, direction) = match head.split_once(':') {
            Some((action, "out")) => (action, Direction::Out),
            Some((action, "in")) => (action, Direction::In),
            Some(_) => return Err(form()),
            None => (head, Direction::Out),
        };
        let action = match action {
            "allow" => Action::Allow,
            "deny" => Action::Deny,
            _ => return Err(form()),
        };
        let (target, rest) = Target::split(rest, text)?;
        let (transport, ports) = match rest {
            None => (None, None),
            Some(rest) => match rest.split_once(':') {
                Some((transport, ports)) => (
                    Some(transport.parse().map_err(|()| form())?),
                    Some(ports.parse()?),
                ),
                None => match rest.parse() {
                    Ok(transport) => (Some(transport), None),
                    Err(()) if rest.bytes().any(|byte| byte.is_ascii_alphabetic()) => {
                        return Err(form());
                    }
                    Err(()) => (None, Some(rest.parse()?)),
                },
            },
        };
        if transport == Some(Transport::Icmp) && ports.is_some() {
            return Err(RuleError::PortsOfIcmp(text.into()));
        }
        if direction == Direction::In && matches!(target, Target::Domain(_)) {
            return Err(RuleError::DomainComesIn(text.into()));
        }
        Ok(Self {
            action,
            direction,
            target,
            transport,
            ports,
        })
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        })?;
        if self.direction == Direction::In {
            formatter.write_str(":in")?;
        }
        write!(formatter, "@{}", self.target)?;
        if let Some(transport) = self.transport {
            write!(formatter, ":{transport}")?;
        }
        match &self.ports {
            Some(ports) => write!(formatter, ":{ports}"),
            None => Ok(()),
        }
    }
}
