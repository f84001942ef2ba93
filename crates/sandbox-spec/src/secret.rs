//! `--secret NAME@HOST[,HOST…]` and `--secret-file NAME=PATH@HOST[,HOST…]`: values that stay
//! outside the guest, and the hosts that get them.

use sandbox_host::hint::Hint;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::domain::{DomainError, DomainPattern};
use sandbox_host::files::{FileError, read_if_present};
use sandbox_host::hexadecimal;

/// The longest value, in bytes: it has to fit into a request's header beside others.
const LONGEST: usize = 16 << 10;
/// Random bytes of a placeholder.
const PLACEHOLDER_BYTES: usize = 16;

/// Why a secret was refused.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not of the form.
    #[error("`{given}` is not of the form `{form}`")]
    Form {
        /// What was given; it names a secret and is none.
        given: String,
        /// How it should look.
        form: &'static str,
    },
    /// The name cannot be that of an environment variable.
    #[error("`{0}` is not the name of an environment variable")]
    Name(String),
    /// A host is no domain.
    #[error(transparent)]
    Host(#[from] DomainError),
    /// A regular expression in place of hosts.
    #[error("`{0}` does not name the hosts of a secret plainly")]
    Expression(String),
    /// The environment has no such variable.
    #[error("the environment has no variable `{0}` for the secret")]
    Absent(String),
    /// The file is not there.
    #[error("the file `{}` of the secret `{name}` does not exist", path.display())]
    NoFile {
        /// The secret.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The value is empty, too long, or could not stand in a header.
    #[error(
        "the value of the secret `{0}` is empty, longer than 16 KiB, or not plain text on one line"
    )]
    Value(String),
    /// The system has no random bytes.
    #[error("no random bytes are to be had for a placeholder")]
    Random(#[source] std::io::Error),
}

impl SecretError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form { .. } => {
                "as in `--secret API_TOKEN@api.example.com` or `--secret-file API_TOKEN=~/token@api.example.com`".into()
            }
            Self::Name(_) => "use letters, digits and `_`, as in `API_TOKEN`".into(),
            Self::Host(error) => return error.hint(),
            Self::Expression(_) => "name them, as in `api.example.com` or `.example.com`".into(),
            Self::Absent(name) => format!("export `{name}`, or give its value by `--secret-file`").into(),
            Self::NoFile { .. } => "check the path".into(),
            Self::File(error) => return error.hint(),
            Self::Value(_) => "a secret is one line of text, such as a token or a password".into(),
            Self::Random(_) => return None,
        })
    }
}

/// Where a secret's value lies on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the environment variable of its name.
    Variable,
    /// In a file.
    File(PathBuf),
}

/// A secret that the user asked for; its value is not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRequest {
    /// The variable in the guest, and for [`SecretSource::Variable`] on the host.
    pub name: String,
    /// Who gets the value.
    pub hosts: Vec<DomainPattern>,
    /// Where the value lies.
    pub source: SecretSource,
}

impl SecretRequest {
    /// Reads `NAME@HOST[,HOST…]`.
    ///
    /// # Errors
    /// [`SecretError`], about the form.
    pub fn of_variable(text: &str) -> Result<Self, SecretError> {
        let form = "NAME@HOST[,HOST…]";
        let (name, hosts) = divide(text, form)?;
        Self::new(name, hosts, SecretSource::Variable)
    }

    /// Reads `NAME=PATH@HOST[,HOST…]`; the path may hold `=` and `@`.
    ///
    /// # Errors
    /// [`SecretError`], about the form.
    pub fn of_file(text: &str) -> Result<Self, SecretError> {
        let form = "NAME=PATH@HOST[,HOST…]";
        let (rest, hosts) = divide(text, form)?;
        let (name, path) = rest
            .split_once('=')
            .filter(|(_, path)| !path.is_empty())
            .ok_or_else(|| SecretError::Form {
                given: text.into(),
                form,
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

    /// Reads the value and makes a placeholder. `variable` is the host's environment; a path is
    /// used as it is.
    ///
    /// # Errors
    /// Where there is no value, or none that could stand in a header.
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
                // One byte more shows what is too long.
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

fn divide<'a>(text: &'a str, form: &'static str) -> Result<(&'a str, &'a str), SecretError> {
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

/// A secret on its way to the gateway. It is serialized with its value, for the supervisor's
/// stdin and for nothing else; a record holds a [`SecretSummary`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretSpec {
    /// The variable in the guest.
    pub name: String,
    /// Who gets the value.
    pub hosts: Vec<DomainPattern>,
    /// What the variable holds in the guest.
    pub placeholder: String,
    /// The value.
    pub value: SecretValue,
}

/// What may be written down of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSummary {
    /// The variable in the guest.
    pub name: String,
    /// Who gets the value.
    pub hosts: Vec<DomainPattern>,
}

impl SecretSpec {
    /// The secret without its value.
    pub fn summary(&self) -> SecretSummary {
        SecretSummary {
            name: self.name.clone(),
            hosts: self.hosts.clone(),
        }
    }
}

/// A value that is shown to nobody and wiped from memory when it is dropped.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// The value itself.
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
