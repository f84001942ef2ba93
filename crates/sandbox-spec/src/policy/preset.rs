//! Presets: the decision about flows that no rule matches.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::RuleError;
use crate::address::AddressKind;

/// The addresses that the guest can reach if no rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// None; DNS answers no name.
    None,
    /// Unicast addresses of the internet.
    #[default]
    Public,
    /// Those of `public`, and private networks without the host.
    Private,
    /// All, including the host's loopback.
    All,
}

impl Preset {
    /// Returns the preset's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Public => "public",
            Self::Private => "private",
            Self::All => "all",
        }
    }

    /// Returns whether the guest can open flows to an address of this kind.
    pub fn allows(self, kind: AddressKind) -> bool {
        match self {
            Self::None => false,
            Self::Public => kind == AddressKind::Public,
            Self::Private => matches!(kind, AddressKind::Public | AddressKind::Private),
            Self::All => true,
        }
    }

    /// Returns whether the guest can reach an address of this kind by an allowed name.
    ///
    /// Loopback, link-local, metadata and host addresses are never allowed, even if the preset
    /// allows the address itself. A name on the internet must not lead to them (DNS rebinding).
    pub fn allows_behind_a_name(self, kind: AddressKind) -> bool {
        match kind {
            // Also under `none`, where only a rule allows a name.
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
