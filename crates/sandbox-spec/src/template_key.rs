//! The names of templates: digests of the machines that they restore.

use std::fmt;
use std::str::FromStr;

use sandbox_host::hexadecimal;
use sandbox_host::hint::Hint;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The number of digits that a user sees. As with image digests and git's commits, they are enough
/// to distinguish a few templates.
const SHOWN_DIGITS: usize = 12;

/// The name of a template: the SHA-256 of the shape of the machine that it restores.
///
/// It displays as its first 12 digits. [`TemplateKey::hex`] and JSON have all 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateKey([u8; 32]);

impl TemplateKey {
    /// Returns the key of a shape with this digest.
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns all 64 hexadecimal digits, a safe path component.
    pub fn hex(&self) -> String {
        hexadecimal::encode(&self.0)
    }
}

impl fmt::Display for TemplateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.hex()[..SHOWN_DIGITS])
    }
}

impl fmt::Debug for TemplateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.hex())
    }
}

impl FromStr for TemplateKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        hexadecimal::decode(text)
            .map(Self)
            .ok_or_else(|| InvalidKey(text.to_owned()))
    }
}

impl Serialize for TemplateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for TemplateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The first digits of a key, by which a user selects a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// Returns whether `key` starts with these digits.
    pub fn matches(&self, key: &TemplateKey) -> bool {
        key.hex().starts_with(&self.0)
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for KeyPrefix {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let are_digits = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.is_empty() || text.len() > 64 || !are_digits {
            return Err(InvalidKey(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The error of a text that is neither a key nor the first digits of one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid template key `{0}`")]
pub struct InvalidKey(String);

impl InvalidKey {
    /// Returns a hint with the command that lists the keys.
    pub fn hint(&self) -> Option<Hint> {
        let hint = Hint::text("give the first digits of a key from ").command("template ls");
        Some(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_key_parses_its_hex_and_displays_short() {
        let key = TemplateKey::new(std::array::from_fn(|index| index as u8 * 7));
        assert_eq!(key.hex().parse(), Ok(key));
        assert_eq!(key.to_string(), "00070e151c23");
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<TemplateKey>(&json).unwrap(), key);
    }

    #[test]
    fn key_with_other_characters_or_length_is_refused() {
        let long = "a".repeat(65);
        for text in ["", "g", "A", "0x1", "../..", "0 ", "ä", &long] {
            assert!(text.parse::<KeyPrefix>().is_err(), "{text}");
            assert!(text.parse::<TemplateKey>().is_err(), "{text}");
        }
        assert!("abc".parse::<TemplateKey>().is_err());
    }

    #[test]
    fn key_prefix_matches_the_start_only() {
        let key = TemplateKey::new([0xab; 32]);
        let matches = |text: &str| text.parse::<KeyPrefix>().unwrap().matches(&key);
        assert!(matches("a") && matches("abab") && matches(&key.hex()));
        assert!(!matches("b") && !matches("aba0"));
    }
}
