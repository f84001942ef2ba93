//! SHA-256 digests of content.

use std::fmt;
use std::str::FromStr;

use sandbox_host::hexadecimal;
use sha2::{Digest as _, Sha256};

use crate::text::serde_as_text;

/// A SHA-256 digest, written as `sha256:` and 64 lower-case hexadecimal digits (OCI image
/// specification, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Finishes a hasher and returns its digest.
    pub fn from_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Returns the 64 hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        hexadecimal::encode(&self.0)
    }

    /// Returns the 32 bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.strip_prefix("sha256:")
            .and_then(hexadecimal::decode)
            .map(Self)
            .ok_or_else(|| InvalidDigest(text.to_owned()))
    }
}

serde_as_text!(Digest);

/// The error of a text that is not a digest.
#[derive(Debug, thiserror::Error)]
#[error("invalid digest `{0}`: expected `sha256:` and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_parses_its_own_text() {
        let digest = Digest::of(b"abc");
        // FIPS 180-2, appendix B.1.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        for wrong in [&text[7..], &text[..70], &text.to_uppercase(), "sha256:ü"] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
