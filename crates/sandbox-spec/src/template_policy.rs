//! The use of templates by starts: the value of `--templates`.

use std::fmt;
use std::str::FromStr;

use sandbox_host::hint::Hint;
use serde::{Deserialize, Serialize};

/// How starts use templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TemplatePolicy {
    /// A start uses the template for its shape. Without one, it builds one in the background.
    #[default]
    Auto,
    /// A start uses the template for its shape if `sandbox template build` has built it.
    Manual,
    /// Every start boots.
    Off,
}

impl TemplatePolicy {
    /// Every policy, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Manual, Self::Off];

    /// Returns whether a start looks for a template.
    pub fn is_used(self) -> bool {
        self != Self::Off
    }

    /// Returns whether a start without a template builds one.
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

/// The error of a text that is none of [`TemplatePolicy::ALL`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid template policy `{0}`")]
pub struct UnknownPolicy(String);

impl UnknownPolicy {
    /// Returns a hint with the policies.
    pub fn hint(&self) -> Option<Hint> {
        Some("choose `auto`, `manual` or `off`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_policy_parses_its_own_text() {
        for policy in TemplatePolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("never".parse::<TemplatePolicy>().is_err());
    }

    #[test]
    fn auto_alone_builds_and_off_alone_does_not_use() {
        let seen = TemplatePolicy::ALL.map(|policy| (policy.is_used(), policy.is_built()));
        assert_eq!(seen, [(true, true), (true, false), (false, false)]);
    }
}
