//! Secrets, values that stay outside the guest, and the hosts that receive them: the values of
//! `--secret` and `--secret-file`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use sandbox_host::files::{FileError, read_if_present};
use sandbox_host::hexadecimal;
use sandbox_host::hint::Hint;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::domain::{DomainError, DomainPattern};

/// The form of `--secret`.
const VARIABLE_FORM: &str = "NAME@HOST[,HOST…]";
/// The form of `--secret-file`.
const FILE_FORM: &str = "NAME=PATH@HOST[,HOST…]";
/// The maximum length of a value, in bytes: a request's header must have room for others.
const LONGEST: usize = 16 << 10;
/// The number of random bytes in a placeholder.
const PLACEHOLDER_BYTES: usize = 16;

/// Why a secret is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The secret does not have its form.
    #[error("invalid secret `{given}`: expected `{form}`")]
    Form {
        /// The text, which does not contain the value.
        given: String,
        /// The form.
        form: &'static str,
    },
    /// The name cannot be the name of an environment variable.
    #[error("invalid secret name `{0}`: expected the name of an environment variable")]
    Name(String),
    /// A host is not a domain.
    #[error(transparent)]
    Host(#[from] DomainError),
    /// A regular expression stands in place of a host.
    #[error("invalid secret host `{0}`: regular expressions are not allowed")]
    Expression(String),
    /// The environment has no variable of the secret's name.
    #[error("environment variable `{0}` not found")]
    Absent(String),
    /// The file does not exist.
    #[error("file `{}` of secret `{name}` not found", path.display())]
    NoFile {
        /// The secret.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The value is empty, too long, or invalid in a header.
    #[error(
        "invalid value of secret `{0}`: it is empty, exceeds 16 KiB, or is not one line of text"
    )]
    Value(String),
    /// The system returned no random bytes.
    #[error("could not get random bytes for a placeholder")]
    Random(#[source] std::io::Error),
}

impl SecretError {
    /// Returns a hint with a valid value or with the next step.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form { form, .. } => {
                let example = Hint::text("give, for example, ");
                match *form {
                    FILE_FORM => {
                        example.setting("secret-file", "API_TOKEN=~/token@api.example.com")
                    }
                    _ => example.setting("secret", "API_TOKEN@api.example.com"),
                }
            }
            Self::Name(_) => "use letters, digits and `_`, as in `API_TOKEN`".into(),
            Self::Host(error) => return error.hint(),
            Self::Expression(_) => "give names, such as `api.example.com` or `.example.com`".into(),
            Self::Absent(name) => Hint::text(format!("export `{name}`, or give its value by "))
                .setting_name("secret-file"),
            Self::NoFile { .. } => "check the path".into(),
            Self::File(error) => return error.hint(),
            Self::Value(_) => "give one line of text, such as a token or a password".into(),
            Self::Random(_) => return None,
        })
    }
}

/// The place of a secret's value on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretSource {
    /// The environment variable of the secret's name.
    Variable,
    /// A file.
    File(PathBuf),
}

/// A secret that the user requested, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretRequest {
    /// The variable in the guest, and for [`SecretSource::Variable`] on the host.
    pub name: String,
    /// The hosts that receive the value.
    pub hosts: Vec<DomainPattern>,
    /// The place of the value.
    pub source: SecretSource,
}

impl SecretRequest {
    /// Parses `NAME@HOST[,HOST…]`.
    ///
    /// # Errors
    /// [`SecretError`] if the form, the name or a host is invalid.
    pub fn of_variable(text: &str) -> Result<Self, SecretError> {
        let (name, hosts) = split_at_hosts(text, VARIABLE_FORM)?;
        Self::new(name, hosts, SecretSource::Variable)
    }

    /// Parses `NAME=PATH@HOST[,HOST…]`. The path can contain `=` and `@`.
    ///
    /// # Errors
    /// [`SecretError`] if the form, the name or a host is invalid.
    pub fn of_file(text: &str) -> Result<Self, SecretError> {
        let (rest, hosts) = split_at_hosts(text, FILE_FORM)?;
        let (name, path) = rest
            .split_once('=')
            .filter(|(_, path)| !path.is_empty())
            .ok_or_else(|| SecretError::Form {
                given: text.into(),
                form: FILE_FORM,
            })?;
        Self::new(name, hosts, SecretSource::File(path.into()))
    }

    fn new(name: &str, hosts: &str, source: SecretSource) -> Result<Self, SecretError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let first = name.bytes().next();
        if !name.bytes().all(word) || first.is_none_or(|first| first.is_ascii_digit()) {
            return Err(SecretError::Name(name.into()));
        }
        let hosts = hosts
            .split(',')
            .map(|host| match host.parse()? {
                DomainPattern::Expression(_) => Err(SecretError::Expression(host.into())),
                pattern => Ok(pattern),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.into(),
            hosts,
            source,
        })
    }

    /// Reads the value and makes a placeholder. `variable` looks up the host's environment. A path
    /// is not expanded.
    ///
    /// # Errors
    /// [`SecretError`] if the value is missing or invalid in a header.
    pub fn resolve(
        &self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<SecretSpec, SecretError> {
        let refused = || SecretError::Value(self.name.clone());
        let bytes = match &self.source {
            SecretSource::Variable => variable(&self.name)
                .ok_or_else(|| SecretError::Absent(self.name.clone()))?
                .into_encoded_bytes(),
            SecretSource::File(path) => {
                // The maximum, a line end (CR LF), and one byte that shows a longer value.
                read_if_present(path, LONGEST as u64 + 3)?.ok_or_else(|| SecretError::NoFile {
                    name: self.name.clone(),
                    path: path.clone(),
                })?
            }
        };
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).map_err(|_| refused())?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(refused());
        }
        Ok(SecretSpec {
            name: self.name.clone(),
            hosts: self.hosts.clone(),
            placeholder: new_placeholder(&self.name).map_err(SecretError::Random)?,
            value: SecretValue(Zeroizing::new(text.into())),
        })
    }
}

/// Splits a secret at the `@` before its hosts.
fn split_at_hosts<'a>(
    text: &'a str,
    form: &'static str,
) -> Result<(&'a str, &'a str), SecretError> {
    text.rsplit_once('@').ok_or_else(|| SecretError::Form {
        given: text.into(),
        form,
    })
}

fn new_placeholder(name: &str) -> std::io::Result<String> {
    let mut random = [0; PLACEHOLDER_BYTES];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let digits = hexadecimal::encode(&random);
    Ok(format!("sandbox-secret-{name}-{digits}"))
}

/// A secret with its value, for the gateway.
///
/// It is only serialized for the supervisor's stdin. A record contains a [`SecretSummary`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SecretSpec {
    /// The variable in the guest.
    pub name: String,
    /// The hosts that receive the value.
    pub hosts: Vec<DomainPattern>,
    /// The variable's value in the guest.
    pub placeholder: String,
    /// The secret's value.
    pub value: SecretValue,
}

/// A secret without its value and its placeholder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SecretSummary {
    /// The variable in the guest.
    pub name: String,
    /// The hosts that receive the value.
    pub hosts: Vec<DomainPattern>,
}

impl SecretSpec {
    /// Returns the secret without its value and its placeholder.
    pub fn summary(&self) -> SecretSummary {
        SecretSummary {
            name: self.name.clone(),
            hosts: self.hosts.clone(),
        }
    }
}

/// A secret value. `Debug` hides it, and dropping it wipes it from memory.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Returns the value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl Serialize for SecretValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}

#[cfg(test)]
mod tests;
