//! The specification of a sandbox: its valid values and its checks against the host.

use sandbox_host::hint::Hint;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::network::NetworkSpec;
use sandbox_host::files::FileError;
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::{
    CpuCount, DiskSize, ImageReference, MemorySize, SandboxName, Share, ShareMode, SizeError,
    TemplatePolicy,
};

/// How long a sandbox lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Lifetime {
    /// Until it is stopped.
    Persistent,
    /// As long as the handle or the command that started it, even if that is killed.
    Attached,
}

/// The specification of a sandbox. Each field is valid on its own. [`check`](Self::check) compares
/// them with the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SandboxSpec {
    /// The sandbox's name.
    pub name: SandboxName,
    /// The host directory to share at `/home/dev/workspace`, if any: absolute, canonical,
    /// existing.
    pub workspace: Option<PathBuf>,
    /// The base image.
    pub image: ImageReference,
    /// The number of processors.
    pub cpus: CpuCount,
    /// The memory size.
    pub memory: MemorySize,
    /// The size of the root disk as the guest sees it.
    pub disk: DiskSize,
    /// The shares besides the workspace.
    pub shares: Vec<Share>,
    /// How shares store owners and modes.
    pub share_mode: ShareMode,
    /// Whether the guest can use KVM itself.
    #[serde(default)]
    pub nested_virtualization: bool,
    /// The user's cloud-config, parsed.
    pub(crate) cloud_config: Option<Map<String, Value>>,
    /// How long the guest may take to become ready.
    pub ready_timeout: Duration,
    /// How the start uses templates.
    pub templates: TemplatePolicy,
    /// The sandbox's lifetime.
    pub lifetime: Lifetime,
    /// The sandbox's network.
    #[serde(default)]
    pub network: NetworkSpec,
}

/// The capacity of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCapacity {
    /// The number of processors that this process may run on.
    pub cpus: u32,
    /// The physical memory, in bytes.
    pub memory_bytes: u64,
}

impl HostCapacity {
    /// Returns the capacity of this host.
    pub fn of_this_host() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let info = rustix::system::sysinfo();
        Self {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_bytes: u64::from(info.mem_unit).saturating_mul(info.totalram),
        }
    }

    /// Checks processors and memory against this host and against the maximum of every host.
    fn check(self, cpus: CpuCount, memory: MemorySize) -> Result<(), SpecError> {
        if cpus.get() > self.cpus {
            return Err(SpecError::Cpus {
                asked: cpus,
                available: self.cpus,
            });
        }
        if memory.bytes() > self.memory_bytes {
            return Err(SpecError::Memory {
                asked: memory,
                available_mib: self.memory_bytes >> 20,
            });
        }
        cpus.check_maximum()?;
        memory.check_maximum()?;
        Ok(())
    }
}

/// A specification that this host cannot meet.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The sandbox has more processors than the host.
    #[error("invalid processor count `{asked}`: this host has {available}")]
    Cpus {
        /// The sandbox's number.
        asked: CpuCount,
        /// The host's number.
        available: u32,
    },
    /// The sandbox has more memory than the host.
    #[error("invalid memory size `{asked}`: this host has {available_mib}M")]
    Memory {
        /// The sandbox's memory.
        asked: MemorySize,
        /// The host's memory, in MiB.
        available_mib: u64,
    },
    /// Processors or memory exceed the maximum of every host.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// A directory to share cannot be used.
    #[error("could not use the directory to share")]
    Directory(#[source] FileError),
    /// The path to share is not a directory.
    #[error("`{}` is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// A share of the root directory would give the whole host to the guest.
    #[error("could not share `/`: it is the whole file system of this host")]
    Root,
    /// The share contains the state directory, so the guest could write to it.
    #[error("could not share `{}`: it contains the state of sandboxes (`{}`)", share.display(), state.display())]
    HoldsState {
        /// The directory to share.
        share: PathBuf,
        /// The state directory.
        state: PathBuf,
    },
    /// The directory to share lies in the state directory, which contains keys and allowlists.
    #[error("could not share `{}`: it lies in the state of sandboxes (`{}`)", share.display(), state.display())]
    InState {
        /// The directory to share.
        share: PathBuf,
        /// The state directory.
        state: PathBuf,
    },
    /// Two published ports listen at the same address.
    #[error("two ports are published at `{0}`")]
    SamePort(PublishedPort),
    /// Two secrets have the same name.
    #[error("two secrets have the name `{0}`")]
    SameSecret(String),
    /// Two shares have the same path in the guest.
    #[error("two shares have the same path in the guest, `{0}`")]
    SamePlace(String),
}

impl SpecError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Cpus { available, .. } => {
                let most = CpuCount::MAXIMUM.get().min(*available);
                Some(Hint::text("give at most ").setting("cpus", most))
            }
            Self::Memory { available_mib, .. } => {
                let bound_mib = (MemorySize::MAXIMUM.bytes() >> 20).min(*available_mib);
                Some(Hint::text("give less than ").setting("memory", format_args!("{bound_mib}M")))
            }
            Self::Size(error) => error.hint(),
            Self::Directory(error) => Some(match error.source.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    format!("make `{}` readable to you", error.path.display()).into()
                }
                _ => "check the path".into(),
            }),
            Self::NotDirectory(_) => Some("share the directory that contains it".into()),
            Self::Root => Some("change into a project directory, or share one".into()),
            Self::HoldsState { .. } => Some(
                "share a project directory below it, or move the state with `SANDBOX_HOME`".into(),
            ),
            Self::InState { .. } => Some("share a directory outside of it".into()),
            Self::SamePort(_) => Some(
                Hint::text("give each ")
                    .setting_name("publish")
                    .then(" its own port"),
            ),
            Self::SameSecret(_) => Some(
                Hint::text("name all its hosts in one ")
                    .setting_name("secret")
                    .then(", separated by commas"),
            ),
            Self::SamePlace(_) => Some(
                Hint::text("give each ")
                    .setting_name("share")
                    .then(" its own path"),
            ),
        }
    }
}

impl SandboxSpec {
    /// Checks the specification against the host's capacity and its state directory. Also checks
    /// that shares, ports and secrets are distinct.
    ///
    /// # Errors
    /// Returns the first violation that it finds.
    pub fn check(&self, host: HostCapacity, state: &Path) -> Result<(), SpecError> {
        host.check(self.cpus, self.memory)?;
        let mut places = vec![sandbox_spec::guest::WORKSPACE];
        for share in &self.shares {
            if places.contains(&share.guest.as_str()) {
                return Err(SpecError::SamePlace(share.guest.to_string()));
            }
            places.push(share.guest.as_str());
        }
        // Shares are canonical, so compare them with the canonical state directory.
        let canonical = state.canonicalize().unwrap_or_else(|_| state.into());
        for directory in self
            .shares
            .iter()
            .map(|share| &share.host)
            .chain(&self.workspace)
        {
            if canonical.starts_with(directory) {
                return Err(SpecError::HoldsState {
                    share: directory.clone(),
                    state: state.into(),
                });
            }
            if directory.starts_with(&canonical) {
                return Err(SpecError::InState {
                    share: directory.clone(),
                    state: state.into(),
                });
            }
        }
        self.check_network()
    }

    fn check_network(&self) -> Result<(), SpecError> {
        let NetworkSpec {
            published, secrets, ..
        } = &self.network;
        for (index, port) in published.iter().enumerate() {
            let same = |other: &PublishedPort| {
                port.host.port() != 0
                    && (other.host, other.transport) == (port.host, port.transport)
            };
            if published.iter().take(index).any(same) {
                return Err(SpecError::SamePort(*port));
            }
        }
        for (index, secret) in secrets.iter().enumerate() {
            if secrets
                .iter()
                .take(index)
                .any(|other| other.name == secret.name)
            {
                return Err(SpecError::SameSecret(secret.name.clone()));
            }
        }
        Ok(())
    }
}

/// Returns the canonical path of a directory to share. The directory exists, can be listed, and is
/// not the root.
pub(crate) fn shareable_directory(path: &Path) -> Result<PathBuf, SpecError> {
    let directory = path
        .canonicalize()
        .map_err(FileError::new("find", path))
        .map_err(SpecError::Directory)?;
    if directory == Path::new("/") {
        return Err(SpecError::Root);
    }
    if !directory.is_dir() {
        return Err(SpecError::NotDirectory(directory));
    }
    std::fs::read_dir(&directory)
        .map_err(FileError::new("read the directory", &directory))
        .map_err(SpecError::Directory)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(host: HostCapacity, cpus: &str, memory: &str) -> (String, String) {
        let error = host
            .check(cpus.parse().unwrap(), memory.parse().unwrap())
            .unwrap_err();
        (error.to_string(), error.hint().unwrap().to_string())
    }

    #[test]
    fn check_beyond_host_capacity_names_it() {
        let host = HostCapacity {
            cpus: 4,
            memory_bytes: 24_099 << 20,
        };
        assert!(
            host.check("4".parse().unwrap(), "24099M".parse().unwrap())
                .is_ok()
        );
        for (cpus, memory, error, hint) in [
            (
                "2",
                "99T",
                "invalid memory size `99T`: this host has 24099M",
                "give less than `memory = 24099M`",
            ),
            (
                "999",
                "2G",
                "invalid processor count `999`: this host has 4",
                "give at most `cpus = 4`",
            ),
        ] {
            assert_eq!(refusal(host, cpus, memory), (error.into(), hint.into()));
        }
    }

    #[test]
    fn check_beyond_maximum_suggests_it() {
        let host = HostCapacity {
            cpus: 512,
            memory_bytes: 16 << 40,
        };
        for (cpus, memory, error, hint) in [
            (
                "300",
                "2G",
                "invalid processor count `300`: the maximum is 255",
                "give at most `255`",
            ),
            (
                "999",
                "2G",
                "invalid processor count `999`: this host has 512",
                "give at most `cpus = 255`",
            ),
            (
                "2",
                "9T",
                "invalid memory size `9T`: the maximum is 8T",
                "give at most `8T`",
            ),
        ] {
            assert_eq!(refusal(host, cpus, memory), (error.into(), hint.into()));
        }
    }
}
