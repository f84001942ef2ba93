//! Shared directories: the values of `--share` and `--share-mode`.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use sandbox_host::hint::Hint;
use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;

/// Why a share or a share mode is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareError {
    /// The share does not have the form `HOST:GUEST[:ro]`.
    #[error("invalid share `{0}`: expected `HOST:GUEST[:ro]`")]
    Form(String),
    /// The guest's path is relative, the root directory, or contains `.` or `..`.
    #[error("invalid guest path `{0}`: expected an absolute path below `/` without `.` and `..`")]
    GuestPath(String),
    /// The guest's system needs the path itself.
    #[error("invalid guest path `{0}`: the guest's system needs it")]
    Reserved(String),
    /// The mode is neither `mapped` nor `passthrough`.
    #[error("invalid share mode `{0}`")]
    Mode(String),
}

impl ShareError {
    /// Returns a hint with a valid value.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form(_) => Hint::text("give, for example, ").setting("share", "~/data:/data:ro"),
            Self::GuestPath(_) | Self::Reserved(_) => {
                "choose another guest path, such as `/mnt/data` or `/home/dev/data`".into()
            }
            Self::Mode(_) => "choose `mapped` or `passthrough`".into(),
        })
    }
}

/// An absolute path in the guest without `.`, `..` and a trailing slash. It is not `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestPath(String);

impl GuestPath {
    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

serde_as_text!(GuestPath);

impl FromStr for GuestPath {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let refused = || ShareError::GuestPath(text.into());
        if !text.starts_with('/') || text.chars().any(char::is_control) {
            return Err(refused());
        }
        let mut clean = String::new();
        for component in Path::new(text).components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => {
                    clean.push('/');
                    clean.push_str(name.to_str().ok_or_else(refused)?);
                }
                _ => return Err(refused()),
            }
        }
        // `components` ignores a `.` in the middle of a path.
        if clean.is_empty() || text.split('/').any(|part| part == ".") {
            return Err(refused());
        }
        Ok(Self(clean))
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How the host stores the owners, modes and special files of a share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ShareMode {
    /// In extended attributes, so that the guest cannot create real links, devices or setuid files
    /// on the host.
    #[default]
    Mapped,
    /// As real modes, links and special files. Their owner is the caller.
    Passthrough,
}

impl ShareMode {
    /// Returns the value of QEMU's `security_model=`.
    ///
    /// QEMU's own `passthrough` fails if it cannot change a file's owner, which needs capabilities.
    /// QEMU's `none` does the same without owners.
    pub fn security_model(self) -> &'static str {
        match self {
            Self::Mapped => "mapped-xattr",
            Self::Passthrough => "none",
        }
    }
}

impl FromStr for ShareMode {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        match text {
            "mapped" => Ok(Self::Mapped),
            "passthrough" => Ok(Self::Passthrough),
            _ => Err(ShareError::Mode(text.into())),
        }
    }
}

impl fmt::Display for ShareMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Mapped => "mapped",
            Self::Passthrough => "passthrough",
        })
    }
}

/// A host directory that the guest mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The host directory; the parser keeps it as given.
    pub host: PathBuf,
    /// The guest's mount point.
    pub guest: GuestPath,
    /// Whether the guest can only read.
    pub read_only: bool,
}

/// Directories that a running Debian needs. `/` itself is not a [`GuestPath`].
const RESERVED: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr",
    "/var",
];

impl Share {
    /// Shares the host directory `host` at the absolute path `guest` of the guest.
    ///
    /// # Errors
    /// Where the guest's path is not absolute and clean, or the guest's system lives there.
    pub fn new(host: impl Into<PathBuf>, guest: &str) -> Result<Self, ShareError> {
        let guest: GuestPath = guest.parse()?;
        let below_kernel = ["/dev/", "/proc/", "/sys/"]
            .iter()
            .any(|parent| guest.as_str().starts_with(parent));
        if below_kernel
            || RESERVED.contains(&guest.as_str())
            || ["/home", "/home/dev", "/root"].contains(&guest.as_str())
        {
            return Err(ShareError::Reserved(guest.0));
        }
        Ok(Self {
            host: host.into(),
            guest,
            read_only: false,
        })
    }

    /// Lets the guest only read.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let (rest, read_only) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        let (host, guest) = rest
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .ok_or_else(|| ShareError::Form(text.into()))?;
        let share = Self::new(host, guest)?;
        Ok(Self { read_only, ..share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_split_at_its_last_colons() {
        for (text, host, guest, read_only) in [
            ("/data:/mnt/data", "/data", "/mnt/data", false),
            ("/data:/mnt/data:ro", "/data", "/mnt/data", true),
            ("./a:b:/mnt/x//y/", "./a:b", "/mnt/x/y", false),
            ("/a:/b:rw", "/a", "/b", false),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!(
                (
                    share.host.to_str().unwrap(),
                    share.guest.as_str(),
                    share.read_only
                ),
                (host, guest, read_only)
            );
        }
    }

    #[test]
    fn share_without_a_free_guest_path_is_refused() {
        for text in [
            "/data",
            ":/x",
            "/data:x",
            "/data:/",
            "/a:/x/../y",
            "/a:/x/./y",
            "/a:/etc",
            "/a:/home/dev",
            "/a:/x\n",
        ] {
            let error = text.parse::<Share>().unwrap_err();
            assert!(error.hint().is_some(), "{text}");
        }
    }

    #[test]
    fn share_mode_has_a_security_model_of_qemu() {
        assert_eq!(
            "mapped".parse::<ShareMode>().unwrap().security_model(),
            "mapped-xattr"
        );
        assert_eq!(
            "passthrough".parse::<ShareMode>().unwrap().to_string(),
            "passthrough"
        );
        assert!("none".parse::<ShareMode>().is_err());
    }
}
