//! `sandbox.json`: what a running sandbox is, for every command that finds it.

use sandbox_host::hint::Hint;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::NetworkSummary;
use sandbox_host::files;
use sandbox_host::files::FileError;
use sandbox_host::process::ProcessIdentity;
use sandbox_spec::{
    Accelerator, CpuCount, DiskSize, MemorySize, SandboxName, Share, ShareMode, TemplateKey,
};

/// The format's version; a reader refuses others.
pub const VERSION: u32 = 1;

/// A record is a few KiB; anything larger is none of ours.
const SIZE_LIMIT: u64 = 1 << 20;

/// Why a record could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is damaged, or written by another version.
    #[error("`{}` is not a record of this version", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl RecordError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::Format { .. } => {
                Some("stop the sandbox with the version of this tool that started it".into())
            }
        }
    }
}

/// One sandbox as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    #[serde(deserialize_with = "known_version")]
    pub version: u32,
    /// Its name.
    pub name: SandboxName,
    /// The shared directory; empty where there is none.
    pub workspace: PathBuf,
    /// The base image's name.
    pub image: String,
    /// The base image's digest, `sha256:` and hexadecimal digits.
    pub image_digest: String,
    /// The template that it was restored from; none after a boot.
    #[serde(default)]
    pub template: Option<TemplateKey>,
    /// Number of processors.
    pub cpus: CpuCount,
    /// Memory.
    pub memory: MemorySize,
    /// Root disk.
    pub disk: DiskSize,
    /// How the processors run.
    pub accelerator: Accelerator,
    /// How owners and modes of shares are kept.
    pub share_mode: ShareMode,
    /// Further shares.
    pub shares: Vec<Share>,
    /// Where the network's access log lies and, in proxy mode, its list.
    #[serde(default)]
    pub network_directory: PathBuf,
    /// Its network.
    #[serde(default)]
    pub network: NetworkSummary,
    /// When it was started, RFC 3339.
    pub created: jiff::Timestamp,
    /// The process of the supervisor.
    pub supervisor: ProcessIdentity,
    /// Whether the supervisor is a thread of a program that uses the library. Else its process has
    /// the sandbox's name on its command line.
    #[serde(default)]
    pub embedded: bool,
    /// QEMU, once it runs.
    pub qemu: Option<ProcessIdentity>,
    /// The SSH port on 127.0.0.1, once it is known.
    pub ssh_port: Option<u16>,
    /// The version of the guest agent's protocol, once the agent has answered.
    pub agent: Option<u32>,
    /// The alias file for OpenSSH, once written.
    pub alias_file: Option<PathBuf>,
    /// Whether the guest has become ready.
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

impl Record {
    /// Reads a record; `None` where there is none.
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

    /// Kills the supervisor, unless that would kill a program of the user's. True if it was sent a
    /// signal.
    pub fn kill_supervisor(&self) -> bool {
        !self.embedded && self.supervisor.kill_if_marked(self.marker())
    }

    /// What the supervisor's command line holds; any holds the empty path.
    fn marker(&self) -> &Path {
        match self.embedded {
            true => Path::new(""),
            false => self.name.as_str().as_ref(),
        }
    }

    /// Writes it, in one step.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let content = serde_json::to_vec_pretty(self).map_err(|source| RecordError::Format {
            path: path.into(),
            source,
        })?;
        Ok(files::write_private(path, &content)?)
    }
}
