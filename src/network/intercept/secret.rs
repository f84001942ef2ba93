//! Secrets whose values stay outside, and the placeholders that stand for them in the guest.

use std::fmt;
use std::io;

use zeroize::Zeroizing;

use super::InterceptError;
use crate::network::domain::{DomainName, DomainPattern};

/// How every placeholder begins.
pub(super) const PLACEHOLDER_PREFIX: &str = "sandbox-secret-";
/// Random bytes of a placeholder.
const PLACEHOLDER_BYTES: usize = 16;

/// A value that the guest never sees: towards certain hosts it takes a placeholder's place.
///
/// Not serialisable on purpose. Its `Debug` output has no value, and its memory is wiped when it
/// is dropped.
pub struct Secret {
    name: String,
    placeholder: String,
    value: Zeroizing<Vec<u8>>,
    hosts: Vec<DomainPattern>,
}

impl Secret {
    /// A secret with a new random placeholder, `sandbox-secret-NAME-` and 32 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// When the name is no variable's, the value cannot stand in a header, there is no host, or
    /// the system has no random bytes.
    pub fn new(
        name: &str,
        value: Zeroizing<Vec<u8>>,
        hosts: Vec<DomainPattern>,
    ) -> Result<Self, InterceptError> {
        let placeholder = new_placeholder(name).map_err(InterceptError::Random)?;
        Self::with_placeholder(name, placeholder, value, hosts)
    }

    /// A secret whose placeholder the guest knows already: the process that composes the seed and
    /// the one that runs the gateway are not the same.
    ///
    /// # Errors
    ///
    /// As [`Secret::new`].
    pub fn with_placeholder(
        name: &str,
        placeholder: String,
        value: Zeroizing<Vec<u8>>,
        hosts: Vec<DomainPattern>,
    ) -> Result<Self, InterceptError> {
        if !is_variable_name(name) || !placeholder.starts_with(PLACEHOLDER_PREFIX) {
            return Err(InterceptError::SecretName(name.into()));
        }
        let printable = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
        if value.is_empty() || !value.iter().all(printable) {
            return Err(InterceptError::SecretValue(name.into()));
        }
        if hosts.is_empty() {
            return Err(InterceptError::NoHost(name.into()));
        }
        Ok(Self {
            name: name.into(),
            placeholder,
            value,
            hosts,
        })
    }

    /// The variable that holds the placeholder in the guest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the guest gets instead of the value.
    pub fn placeholder(&self) -> &str {
        &self.placeholder
    }

    /// The hosts that get the value.
    pub fn hosts(&self) -> &[DomainPattern] {
        &self.hosts
    }

    /// Whether `host` gets the value.
    pub fn is_for(&self, host: &DomainName) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// The value itself.
    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Secret")
            .field("name", &self.name)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// A new random placeholder for the secret `name`.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn new_placeholder(name: &str) -> io::Result<String> {
    use std::fmt::Write;

    let mut random = [0; PLACEHOLDER_BYTES];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let mut placeholder = format!("{PLACEHOLDER_PREFIX}{name}-");
    for byte in random {
        write!(placeholder, "{byte:02x}").expect("a string takes everything");
    }
    Ok(placeholder)
}

fn is_variable_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(word)
        && name
            .bytes()
            .next()
            .is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, value: &str, hosts: &[&str]) -> Result<Secret, InterceptError> {
        Secret::new(
            name,
            Zeroizing::new(value.into()),
            hosts.iter().map(|host| host.parse().unwrap()).collect(),
        )
    }

    #[test]
    fn placeholders_are_new_each_time_and_name_the_secret() {
        let first = secret("TOKEN", "s3cr3t", &["a.example"]).unwrap();
        let second = secret("TOKEN", "s3cr3t", &["a.example"]).unwrap();
        assert_ne!(first.placeholder(), second.placeholder());
        let digits = first
            .placeholder()
            .strip_prefix("sandbox-secret-TOKEN-")
            .unwrap();
        assert_eq!(digits.len(), 32);
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn debug_output_has_no_value() {
        let shown = format!("{:?}", secret("TOKEN", "s3cr3t", &["a.example"]).unwrap());
        assert!(shown.contains("TOKEN") && shown.contains("a.example"));
        assert!(
            !shown.contains("s3cr3t") && !shown.contains("115"),
            "{shown}"
        );
    }

    #[test]
    fn only_the_hosts_that_were_named_get_it() {
        let secret = secret("TOKEN", "s3cr3t", &["a.example", "*.b.example"]).unwrap();
        for (host, expected) in [
            ("a.example", true),
            ("x.b.example", true),
            ("b.example", false),
        ] {
            assert_eq!(secret.is_for(&host.parse().unwrap()), expected, "{host}");
        }
    }

    #[test]
    fn unusable_secrets_are_refused() {
        let hosts = &["a.example"][..];
        for (name, value, hosts) in [
            ("", "x", hosts),
            ("1A", "x", hosts),
            ("A-B", "x", hosts),
            ("A", "", hosts),
            ("A", "x\r\nHost: b", hosts),
            ("A", "x\n", hosts),
            ("A", "x", &[]),
        ] {
            let error = secret(name, value, hosts).unwrap_err();
            assert!(error.hint().is_some());
            assert!(!error.to_string().contains("Host: b"));
        }
    }
}
