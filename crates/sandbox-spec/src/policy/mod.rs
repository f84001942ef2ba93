//! Who may talk to whom: presets, rules, and what they say of one flow.
//!
//! Plain values and pure functions; `gate` asks them with what it knows of the host and of DNS.

mod ports;
mod rule;
mod target;
mod verdict;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use ports::Ports;
pub use rule::{Action, Direction, Rule, RuleError, Transport};
pub use target::Target;
pub use verdict::{NamedVerdict, Reason, RuleName, Verdict};

use super::address::{AddressKind, embedded_v4};
use super::domain::{DomainName, DomainPattern};

/// What is allowed where no rule says anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Nothing, not even names.
    None,
    /// Unicast addresses of the whole internet.
    #[default]
    Public,
    /// The same, and private networks, but not the host.
    Private,
    /// Everything, the host's own loopback included.
    All,
}

impl Preset {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Public => "public",
            Self::Private => "private",
            Self::All => "all",
        }
    }

    /// Whether the guest may open flows to an address of this kind.
    pub fn allows(self, kind: AddressKind) -> bool {
        match self {
            Self::None => false,
            Self::Public => kind == AddressKind::Public,
            Self::Private => matches!(kind, AddressKind::Public | AddressKind::Private),
            Self::All => true,
        }
    }

    /// Whether an address of this kind may stand behind a name that is allowed. Loopback,
    /// link-local, metadata and the host's own never may, whatever may be reached by address: a
    /// name on the internet must not be a way to them (DNS rebinding).
    pub fn allows_behind_a_name(self, kind: AddressKind) -> bool {
        match kind {
            // Under `none` too: there, a name is only allowed by a rule.
            AddressKind::Public => true,
            AddressKind::Private => self.allows(kind),
            _ => false,
        }
    }
}

impl FromStr for Preset {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        [Self::None, Self::Public, Self::Private, Self::All]
            .into_iter()
            .find(|preset| preset.as_str() == text)
            .ok_or_else(|| RuleError::Preset(text.into()))
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A preset and the rules that come before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What counts where no rule matches.
    pub preset: Preset,
    /// In order: the first that matches wins.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// The other side of a flow, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The address that was asked for, an IPv4-mapped one in its IPv4 form.
    pub asked: IpAddr,
    /// The address that it ends at: the host's loopback for the gateway, else the same.
    pub reached: IpAddr,
    /// What `asked` is.
    pub kind: AddressKind,
}

impl Peer {
    fn addresses(&self) -> [IpAddr; 2] {
        [self.asked, self.reached]
    }

    /// The IPv4 address within, where a transition mechanism carries one.
    fn carried(&self) -> Option<IpAddr> {
        match self.asked {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
        }
    }
}

/// One flow, as rules see it.
pub struct Flow<'a> {
    /// From the guest, or to one of its published ports.
    pub direction: Direction,
    /// The other side's address; none where only a name is known.
    pub peer: Option<Peer>,
    /// Whether the other side goes by a name of this pattern.
    pub named: &'a dyn Fn(&DomainPattern) -> bool,
    /// What carries it.
    pub transport: Transport,
    /// The port it goes to; 0 for ICMP.
    pub port: u16,
}

impl Policy {
    /// The first rule that says something of the flow.
    pub fn first_match(&self, flow: &Flow<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(flow))
    }

    /// What the rules for addresses alone say of an address behind a name, whatever the port is.
    pub fn behind_a_name(&self, peer: Peer) -> bool {
        let by_rule = self
            .rules
            .iter()
            .filter(|rule| rule.direction == Direction::Out)
            .find(|rule| {
                // A denial of some ports is none of the whole address.
                (rule.action == Action::Allow || rule.is_for_every_flow())
                    && rule.target.matches_peer(&peer, rule.action)
            });
        match by_rule {
            Some(rule) => rule.action == Action::Allow,
            None => self.preset.allows_behind_a_name(peer.kind),
        }
    }

    /// What the rules for domains say of a name: the first that denies every flow to it, or
    /// allows any.
    pub fn about_name(&self, name: &DomainName) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            let about_it = matches!(&rule.target, Target::Domain(pattern) if pattern.matches(name));
            about_it && (rule.action == Action::Allow || rule.is_for_every_flow())
        })
    }
}

#[cfg(test)]
mod tests;
