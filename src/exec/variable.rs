//! The environment variables of a command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use thiserror::Error;

/// An invalid command, or an invalid part of one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// A part of the command contains a null byte.
    #[error("{what} contains a null byte")]
    NullByte {
        /// The part of the command.
        what: &'static str,
    },
    /// The command is empty.
    #[error("the command is empty")]
    Empty,
    /// The name of an environment variable is invalid.
    #[error("invalid environment variable `{assignment}`: expected `NAME=VALUE`")]
    InvalidAssignment {
        /// The invalid assignment.
        assignment: String,
    },
}

/// An environment variable of a command: a name without `=`, and any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentVariable {
    name: OsString,
    value: OsString,
}

impl EnvironmentVariable {
    /// Creates a variable.
    ///
    /// # Errors
    /// Fails if the name is empty or contains `=`, or if name or value contains a null byte.
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

    /// Returns the name.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Returns the value.
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
