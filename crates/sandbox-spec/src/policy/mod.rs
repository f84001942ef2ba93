//! The network policy: presets, rules, and their decision about one flow.
//!
//! Plain values and pure functions. The gateway's policy engine adds the host's addresses and DNS.

mod error;
mod flow;
mod ports;
mod preset;
mod rule;
mod target;
mod verdict;

use serde::{Deserialize, Serialize};

pub use error::RuleError;
pub use flow::{Direction, Flow, Peer, Transport};
pub use ports::Ports;
pub use preset::Preset;
pub use rule::Rule;
pub use target::{Action, Target};
pub use verdict::{NamedVerdict, Reason, RuleName, Verdict};

use crate::domain::DomainName;

/// A preset, and the rules that precede it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The decision if no rule matches.
    pub preset: Preset,
    /// The rules in order. The first match wins.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

impl Policy {
    /// Returns the first rule that matches the flow.
    pub fn first_match(&self, flow: &Flow<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(flow))
    }

    /// Returns whether the policy allows an address behind an allowed name, on some port.
    ///
    /// Only rules for addresses count, then the preset.
    pub fn behind_a_name(&self, peer: Peer) -> bool {
        let by_rule = self
            .rules
            .iter()
            .filter(|rule| rule.direction == Direction::Out)
            .find(|rule| {
                // A rule that denies some ports does not deny the whole address.
                (rule.action == Action::Allow || rule.is_for_every_flow())
                    && rule.target.matches_peer(&peer, rule.action)
            });
        match by_rule {
            Some(rule) => rule.action == Action::Allow,
            None => self.preset.allows_behind_a_name(peer.kind),
        }
    }

    /// Returns the first rule for domains that allows a flow to the name, or denies every flow to
    /// it.
    pub fn about_name(&self, name: &DomainName) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            let matches = matches!(&rule.target, Target::Domain(pattern) if pattern.matches(name));
            matches && (rule.action == Action::Allow || rule.is_for_every_flow())
        })
    }
}

#[cfg(test)]
mod tests;
