//! `sandbox.json`, the record of a running sandbox. The supervisor writes it and commands read it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sandbox_host::files::{self, FileError};
use sandbox_host::hint::Hint;
use sandbox_host::process::ProcessIdentity;
use sandbox_spec::{
    Accelerator, CpuCount, Digest, DiskSize, ImageReference, MemorySize, SandboxName, Share,
    ShareMode, TemplateKey,
};
use serde::{Deserialize, Serialize};

use crate::network_summary::NetworkSummary;

/// The version of the format. A reader refuses any other.
pub const VERSION: u32 = 1;

/// The maximum size that is read, in bytes. A record has a few KiB.
const SIZE_LIMIT: u64 = 1 << 20;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The record is damaged, or another version wrote it.
    #[error("invalid record `{}`: it is damaged or from another version", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl RecordError {
    /// Returns a hint that ends the sandbox, or makes the file accessible.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::Format { .. } => {
                Some("stop the sandbox with the version of `sandbox` that started it".into())
            }
        }
    }
}

/// The record of a running sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the format, [`VERSION`].
    #[serde(deserialize_with = "known_version")]
    pub version: u32,
    /// The name.
    pub name: SandboxName,
    /// The host's directory at the guest's workspace.
    pub workspace: PathBuf,
    /// The name of the base image.
    pub image: ImageReference,
    /// The digest of the base image.
    pub image_digest: Digest,
    /// The restored template; `None` after a boot.
    #[serde(default)]
    pub template: Option<TemplateKey>,
    /// The number of processors.
    pub cpus: CpuCount,
    /// The memory.
    pub memory: MemorySize,
    /// The size of the root disk.
    pub disk: DiskSize,
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Whether the guest can use KVM itself.
    #[serde(default)]
    pub nested_virtualization: bool,
    /// The storage of owners and modes in shares.
    pub share_mode: ShareMode,
    /// The shares besides the workspace.
    pub shares: Vec<Share>,
    /// The directory of the access log and, in proxy mode, of the allowlist.
    #[serde(default)]
    pub network_directory: PathBuf,
    /// The network.
    #[serde(default)]
    pub network: NetworkSummary,
    /// The time of the start, written as in RFC 3339.
    #[serde(with = "rfc3339")]
    pub created: SystemTime,
    /// The process of the supervisor.
    pub supervisor: ProcessIdentity,
    /// Whether the supervisor is a thread of a program that uses the library. Otherwise its
    /// process has the sandbox's name on its command line.
    #[serde(default)]
    pub embedded: bool,
    /// The process of QEMU, once it runs.
    pub qemu: Option<ProcessIdentity>,
    /// The SSH port on 127.0.0.1, once it is known.
    pub ssh_port: Option<u16>,
    /// The protocol version of the guest agent, once it has answered.
    pub agent: Option<u32>,
    /// The alias file for OpenSSH, once it is written.
    pub alias_file: Option<PathBuf>,
    /// Whether the guest is ready.
    pub ready: bool,
}

fn known_version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        VERSION => Ok(VERSION),
        other => Err(serde::de::Error::custom(format_args!(
            "version {other} instead of {VERSION}"
        ))),
    }
}

/// The text form of a time.
mod rfc3339 {
    use std::time::SystemTime;

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

    pub(super) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let time = Timestamp::try_from(*time).map_err(ser::Error::custom)?;
        time.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        Timestamp::deserialize(deserializer).map(SystemTime::from)
    }
}

impl Record {
    /// Reads a record; `None` if the file does not exist.
    ///
    /// # Errors
    /// [`RecordError`] if the file cannot be read, or the record is invalid.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        let Some(content) = files::read_if_present(path, SIZE_LIMIT)? else {
            return Ok(None);
        };
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|source| RecordError::Format {
                path: path.into(),
                source,
            })
    }

    /// Returns whether the supervisor of this record still runs.
    pub fn is_current(&self) -> bool {
        self.supervisor.is_alive(self.marker())
    }

    /// Kills the supervisor, unless that would kill a program of the user. Returns whether a signal
    /// was sent.
    pub fn kill_supervisor(&self) -> bool {
        !self.embedded && self.supervisor.kill_if_marked(self.marker())
    }

    /// The text that the supervisor's command line contains; each contains the empty path.
    fn marker(&self) -> &Path {
        match self.embedded {
            true => Path::new(""),
            false => self.name.as_str().as_ref(),
        }
    }

    /// Writes the record in one step.
    ///
    /// # Errors
    /// [`RecordError::File`] if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let content = serde_json::to_vec_pretty(self).map_err(|source| RecordError::Format {
            path: path.into(),
            source,
        })?;
        Ok(files::write_private(path, &content)?)
    }
}
