//! The accelerator that executes the guest: the value of `--accel`.

use std::fmt;
use std::str::FromStr;

use sandbox_host::hint::Hint;
use serde::{Deserialize, Serialize};

/// The accelerator that executes the guest: the value of QEMU's `-accel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM, the processor's own virtualization.
    Kvm,
    /// TCG, QEMU's translation in software.
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

/// The user's choice of an accelerator: the value of `--accel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM where it works, otherwise TCG.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// TCG, without a probe of KVM.
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

/// The error of a text that is none of [`AcceleratorChoice::ALL`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid accelerator `{0}`")]
pub struct UnknownAccelerator(String);

impl UnknownAccelerator {
    /// Returns a hint with the choices.
    pub fn hint(&self) -> Option<Hint> {
        Some("choose `auto`, `kvm` or `tcg`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerator_choice_parses_its_own_text() {
        for choice in AcceleratorChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "hvf".parse::<AcceleratorChoice>().unwrap_err();
        assert_eq!(error.to_string(), "invalid accelerator `hvf`");
    }
}
