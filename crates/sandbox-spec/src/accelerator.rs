//! The value of `--accel`: what executes the guest.

use sandbox_host::hint::Hint;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What executes the guest: the value of QEMU's `-accel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor's own virtualization.
    Kvm,
    /// QEMU's translation, in software.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// What the user asked for: the value of `--accel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM where it works, otherwise TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG, without a look at KVM.
    Tcg,
}

impl AcceleratorChoice {
    /// Every choice, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Kvm, Self::Tcg];
}

impl fmt::Display for AcceleratorChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

impl FromStr for AcceleratorChoice {
    type Err = UnknownAccelerator;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| UnknownAccelerator(text.to_owned()))
    }
}

/// None of [`AcceleratorChoice::ALL`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown accelerator `{0}`")]
pub struct UnknownAccelerator(String);

impl UnknownAccelerator {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some("choose one of `auto`, `kvm` and `tcg`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_survive_their_text() {
        for choice in AcceleratorChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "hvf".parse::<AcceleratorChoice>().unwrap_err();
        assert_eq!(error.to_string(), "unknown accelerator `hvf`");
    }
}
