//! What starts do with templates.

use sandbox_host::hint::Hint;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the user wants of templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplatePolicy {
    /// A start uses the template for its shape, and has one made in the background where there
    /// is none.
    #[default]
    Auto,
    /// A start uses the template for its shape, if `sandbox template build` has made it.
    Manual,
    /// Every start boots.
    Off,
}

impl TemplatePolicy {
    /// Every policy, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Manual, Self::Off];

    /// Whether a start looks for a template.
    pub fn is_used(self) -> bool {
        self != Self::Off
    }

    /// Whether a start that finds none has one made.
    pub fn is_built(self) -> bool {
        self == Self::Auto
    }
}

impl fmt::Display for TemplatePolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
            Self::Off => "off",
        })
    }
}

impl FromStr for TemplatePolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.to_string() == text)
            .ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}

/// None of [`TemplatePolicy::ALL`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` says nothing about templates")]
pub struct UnknownPolicy(String);

impl UnknownPolicy {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some("choose one of `auto`, `manual` and `off`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_their_text() {
        for policy in TemplatePolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("never".parse::<TemplatePolicy>().is_err());
    }

    #[test]
    fn only_auto_builds_and_only_off_does_not_use() {
        let seen = TemplatePolicy::ALL.map(|policy| (policy.is_used(), policy.is_built()));
        assert_eq!(seen, [(true, true), (true, false), (false, false)]);
    }
}
