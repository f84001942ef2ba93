//! The names of images.

use std::fmt;
use std::str::FromStr;

use sandbox_host::hint::Hint;

use crate::text::serde_as_text;

/// The maximum length of an image name, in bytes. A file name has at most 255, and the store adds
/// suffixes.
const NAME_LENGTH_LIMIT: usize = 128;

/// The name of an image in the local store: `[a-z0-9][a-z0-9._-]*`.
///
/// The characters `/`, `:` and `@` stay free for registry references.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference(String);

impl ImageReference {
    /// Returns the name, a single and safe path component.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let first_is_valid = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let all_are_valid = text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        });
        if !first_is_valid || !all_are_valid || text.len() > NAME_LENGTH_LIMIT {
            return Err(ReferenceError {
                name: text.to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

serde_as_text!(ImageReference);

/// The error of a text that is not the name of an image.
#[derive(Debug, thiserror::Error)]
#[error("invalid image name `{name}`")]
pub struct ReferenceError {
    name: String,
}

impl ReferenceError {
    /// Returns a hint with the form of a name.
    pub fn hint(&self) -> Option<Hint> {
        Some(
            format!(
                "use at most {NAME_LENGTH_LIMIT} lower-case letters, digits, `.`, `_` and `-`, and \
                 start with a letter or digit"
            )
            .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_name_is_a_safe_path_component() {
        for name in ["debian-13", "a", "0", "debian_13.minimal"] {
            assert_eq!(name.parse::<ImageReference>().unwrap().as_str(), name);
        }
        let long = "a".repeat(NAME_LENGTH_LIMIT + 1);
        for name in [
            "", ".", "..", "-a", "_a", "Debian", "a/b", "a:b", "a b", "ä", &long,
        ] {
            assert!(name.parse::<ImageReference>().is_err(), "{name}");
        }
    }
}
