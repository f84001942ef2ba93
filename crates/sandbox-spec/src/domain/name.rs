//! Host names in their canonical form.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::DomainError;
use crate::text::serde_as_text;

/// A valid host name in its canonical form: A-labels (RFC 5890), lower case, no trailing dot, at
/// most 253 bytes in labels of at most 63.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(String);

/// The maximum length of a name without its trailing dot, in bytes (RFC 1035, section 2.3.4: 255
/// bytes on the wire).
pub(super) const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// The maximum length of a text that is mapped, in bytes. An internationalized name can be longer
/// than its A-labels, but not that much longer.
const LONGEST_INPUT: usize = 1024;

impl DomainName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the labels, the host's own first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// Returns whether the name is below `parent`, at any depth. A name is not below itself.
    pub fn is_below(&self, parent: &DomainName) -> bool {
        self.0
            .strip_suffix(&parent.0)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

/// Allows maps of names to look up a text, and so a suffix of a name.
impl Borrow<str> for DomainName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let refused = || DomainError::Form(text.chars().take(LONGEST_NAME).collect());
        if text.len() > LONGEST_INPUT {
            return Err(refused());
        }
        // UTS 46 as browsers apply it. The code below checks characters, hyphens and lengths, since
        // DNS contains names that STD3 forbids (`_dmarc`, `r3---sn`).
        let mapped = Uts46::new()
            .to_ascii(
                text.as_bytes(),
                AsciiDenyList::EMPTY,
                Hyphens::Allow,
                DnsLength::Ignore,
            )
            .map_err(|_| refused())?;
        let name = mapped.strip_suffix('.').unwrap_or(&mapped);
        let valid_label = |label: &str| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        };
        if name.len() > LONGEST_NAME || !name.split('.').all(valid_label) {
            return Err(refused());
        }
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(DomainError::Address(name.into()));
        }
        Ok(Self(name.into()))
    }
}

/// Returns whether the label is a number by the URL standard's "ends in a number": programs parse
/// `127.1`, `0x7f.1` and `2130706433` as addresses.
fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || label.bytes().all(|byte| byte.is_ascii_digit())
}

serde_as_text!(DomainName);

impl fmt::Display for DomainName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
