//! `--share HOST:GUEST[:ro]` and `--share-mode`, parsed once.

use sandbox_host::hint::Hint;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a share was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShareError {
    /// Not of the form `HOST:GUEST[:ro]`.
    #[error("`{0}` is not of the form `HOST:GUEST[:ro]`")]
    Form(String),
    /// The guest's path is not an absolute, clean path.
    #[error("`{0}` is not an absolute path without `.` and `..`")]
    GuestPath(String),
    /// The guest's path is one that the system in the guest needs itself.
    #[error("`{0}` cannot be covered by a share: the guest's system lives there")]
    Reserved(String),
    /// Neither `mapped` nor `passthrough`.
    #[error("`{0}` is not a share mode")]
    Mode(String),
}

impl ShareError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Form(_) => "as in `--share ~/data:/data:ro`".into(),
            Self::GuestPath(_) | Self::Reserved(_) => {
                "choose a place of its own, such as `/mnt/data` or `/home/dev/data`".into()
            }
            Self::Mode(_) => "choose `mapped` or `passthrough`".into(),
        })
    }
}

/// An absolute path inside the guest, without `.`, `..`, or a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestPath(String);

impl GuestPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GuestPath {
    type Error = ShareError;

    fn try_from(text: String) -> Result<Self, ShareError> {
        text.parse()
    }
}

impl From<GuestPath> for String {
    fn from(path: GuestPath) -> Self {
        path.0
    }
}

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
        // `components` passes over a `.` in the middle of a path.
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

/// How owners, modes and special files of a share are kept on the host; the
/// words are those of QEMU's `security_model=`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareMode {
    /// `mapped-xattr`: in extended attributes, so that the guest cannot make
    /// real links, devices or setuid files on the host.
    #[default]
    Mapped,
    /// `none`: modes, links and special files as they are; owners are the
    /// caller's.
    Passthrough,
}

impl ShareMode {
    /// QEMU's word for it. What QEMU calls `passthrough` insists on giving
    /// files away, which no process without capabilities can; `none` is the
    /// same without owners.
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

/// A host directory for the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The host directory, as given or made absolute by the caller.
    pub host: PathBuf,
    /// Where the guest mounts it.
    pub guest: GuestPath,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// Directories that a running Debian cannot lose: `/` itself is no
/// [`GuestPath`].
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
    fn shares_are_parsed_from_the_right() {
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
    fn what_cannot_be_mounted_is_refused() {
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
    fn modes_name_what_qemu_understands() {
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
