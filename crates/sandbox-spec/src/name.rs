//! The name of a sandbox: its hostname, its SSH alias and its state directory.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use sandbox_host::hint::Hint;

use crate::Digest;
use crate::text::serde_as_text;

/// Why the name of a sandbox is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The name contains a character that a hostname or a file name cannot contain.
    #[error("invalid sandbox name `{0}`: it can only contain letters, digits, `-` and `_`")]
    Characters(String),
    /// The name contains no letter and no digit.
    #[error("invalid sandbox name `{0}`: it contains no letter and no digit")]
    Empty(String),
    /// The name is longer than the label of a hostname.
    #[error("invalid sandbox name `{0}`: it has {length} characters, the maximum is {max}", length = .0.len(), max = SandboxName::MAX_LENGTH)]
    TooLong(String),
    /// The name starts with `-`, so a command line would parse it as an option.
    #[error("invalid sandbox name `{0}`: it starts with `-`")]
    LeadingDash(String),
}

impl NameError {
    /// Returns a hint with a valid name.
    pub fn hint(&self) -> Option<Hint> {
        Some(Hint::text("choose another name, such as ").setting("name", "my-project"))
    }
}

/// A valid name: `[A-Za-z0-9_][A-Za-z0-9_-]*` with at least one letter or digit.
///
/// It has at most 63 bytes, the maximum of a hostname's label (RFC 1035, section 2.3.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxName(String);

impl SandboxName {
    /// The maximum length, in bytes.
    pub const MAX_LENGTH: usize = 63;

    /// Returns the name of a directory's sandbox: `sandbox-` and the directory's own name, with `_`
    /// for other characters.
    ///
    /// # Errors
    /// [`NameError`] if that name is too long, or the directory's name has no letter and no digit.
    pub fn for_directory(directory: &Path) -> Result<Self, NameError> {
        let base = directory.file_name().unwrap_or_default().to_string_lossy();
        let cleaned: String = base
            .chars()
            .map(|character| match character {
                'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => character,
                _ => '_',
            })
            .collect();
        if !cleaned.contains(|character: char| character.is_ascii_alphanumeric()) {
            return Err(NameError::Empty(base.into_owned()));
        }
        format!("sandbox-{cleaned}").parse()
    }

    /// Returns the name of a directory's sandbox if another directory uses
    /// [`Self::for_directory`]'s: eight hexadecimal digits of the path's SHA-256 follow it.
    ///
    /// # Errors
    /// As [`Self::for_directory`].
    pub fn for_directory_with_hash(directory: &Path) -> Result<Self, NameError> {
        use std::os::unix::ffi::OsStrExt;
        let plain = Self::for_directory(directory)?;
        let digits = Digest::of(directory.as_os_str().as_bytes()).hex();
        format!("{plain}-{}", &digits[..8]).parse()
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SandboxName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !text.bytes().all(allowed) {
            return Err(NameError::Characters(text.into()));
        }
        if !text.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            return Err(NameError::Empty(text.into()));
        }
        if text.starts_with('-') {
            return Err(NameError::LeadingDash(text.into()));
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(NameError::TooLong(text.into()));
        }
        Ok(Self(text.into()))
    }
}

serde_as_text!(SandboxName);

impl AsRef<str> for SandboxName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_name_becomes_sandbox_name() {
        for (directory, expected) in [
            ("/home/alice/project", "sandbox-project"),
            ("/home/alice/my.web app", "sandbox-my_web_app"),
            ("/home/alice/größe", "sandbox-gr__e"),
            ("/home/alice/.config", "sandbox-_config"),
        ] {
            assert_eq!(
                SandboxName::for_directory(Path::new(directory))
                    .unwrap()
                    .as_str(),
                expected
            );
        }
    }

    #[test]
    fn name_with_invalid_hostname_is_refused() {
        for directory in ["/", "/home/...", "/home/___", "/home/日本"] {
            assert!(matches!(
                SandboxName::for_directory(Path::new(directory)),
                Err(NameError::Empty(_))
            ));
        }
        let long = format!("/home/{}", "x".repeat(60));
        assert!(matches!(
            SandboxName::for_directory(Path::new(&long)),
            Err(NameError::TooLong(_))
        ));
        for (name, expected) in [
            ("", NameError::Empty(String::new())),
            ("-x", NameError::LeadingDash("-x".into())),
            ("a b", NameError::Characters("a b".into())),
            ("../x", NameError::Characters("../x".into())),
        ] {
            assert_eq!(name.parse::<SandboxName>(), Err(expected));
        }
    }

    #[test]
    fn directories_with_one_name_get_different_hashes() {
        let one = SandboxName::for_directory_with_hash(Path::new("/a/project")).unwrap();
        let other = SandboxName::for_directory_with_hash(Path::new("/b/project")).unwrap();
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), "sandbox-project-01234567".len());
    }
}
