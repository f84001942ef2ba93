//! Variables for the environment of a command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use thiserror::Error;

/// Why something cannot be a command, or a part of one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// A word of the command holds what no command can hold.
    #[error("{what} contains a null byte")]
    NullByte {
        /// Which part of the command.
        what: &'static str,
    },
    /// There is no command to run.
    #[error("the command is empty")]
    Empty,
    /// The name of an environment variable is not one.
    #[error("`{assignment}` is not an environment variable: expected `NAME=VALUE`")]
    InvalidAssignment {
        /// What was given.
        assignment: String,
    },
}

/// A variable for the environment of a command: a name without `=`, and any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentVariable {
    name: OsString,
    value: OsString,
}

impl EnvironmentVariable {
    /// Makes one.
    ///
    /// # Errors
    /// When the name is empty or holds `=`, or either holds a null byte.
    pub fn new(name: OsString, value: OsString) -> Result<Self, CommandError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.contains(&b'=') {
            return Err(CommandError::InvalidAssignment {
                assignment: name.to_string_lossy().escape_debug().to_string(),
            });
        }
        if bytes.contains(&0) || value.as_bytes().contains(&0) {
            return Err(CommandError::NullByte {
                what: "an environment variable",
            });
        }
        Ok(Self { name, value })
    }

    /// Its name.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &OsStr {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_rejects_empty_names_equals_signs_and_null_bytes() {
        for name in ["", "A=B"] {
            assert!(matches!(
                EnvironmentVariable::new(name.into(), "x".into()),
                Err(CommandError::InvalidAssignment { .. })
            ));
        }
        for (name, value) in [("A\0", "x"), ("A", "\0")] {
            assert!(matches!(
                EnvironmentVariable::new(name.into(), value.into()),
                Err(CommandError::NullByte { .. })
            ));
        }
    }
}
