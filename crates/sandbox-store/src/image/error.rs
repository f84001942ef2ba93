//! What can go wrong with the image store.

use sandbox_host::hint::Hint;
use std::io;
use std::path::PathBuf;

use sandbox_spec::ImageReference;

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file or directory of the store could not be used.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A metadata file is not what this program writes.
    #[error("the metadata of image `{name}` in `{}` is not readable", path.display())]
    UnreadableMetadata {
        /// The image.
        name: ImageReference,
        /// The metadata file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A metadata file comes from another version of this program.
    #[error("image `{name}` has metadata of version {found}, this program knows version {known}")]
    UnknownMetadataVersion {
        /// The image.
        name: ImageReference,
        /// The version in the file.
        found: u64,
        /// The version this program writes.
        known: u64,
    },
    /// A metadata file was changed after it was written.
    #[error("the metadata of image `{name}` does not match its digest")]
    ChangedMetadata {
        /// The image.
        name: ImageReference,
    },
    /// An image keeps another agreement with the host than this program does.
    #[error(
        "image `{name}` keeps version {found} of the agreement between host and guest, this program version {known}"
    )]
    OtherContract {
        /// The image.
        name: ImageReference,
        /// The image's version.
        found: u32,
        /// This program's version.
        known: u32,
    },
    /// A file of an image is not what was stored.
    #[error("image `{name}` is damaged: `{}` {damage}", path.display())]
    Corrupt {
        /// The image.
        name: ImageReference,
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
}

/// How a file of an image differs from what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It has another length.
    #[error("has {found_bytes} bytes instead of {expected_bytes}")]
    WrongSize {
        /// Stored length in bytes.
        expected_bytes: u64,
        /// Length found in bytes.
        found_bytes: u64,
    },
    /// It has the right length and another content.
    #[error("has changed since it was stored")]
    WrongContent,
}

impl ImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free some disk space, for example with `sandbox image rm`".into())
                }
                io::ErrorKind::PermissionDenied => {
                    Some("the image store must belong to the user who runs `sandbox`".into())
                }
                _ => None,
            },
            Self::UnknownMetadataVersion {
                name, found, known, ..
            } if found > known => Some(format!(
                "use the newer `sandbox` that made it, or make it again: `sandbox image build {name}`"
            ).into()),
            Self::UnreadableMetadata { name, .. }
            | Self::UnknownMetadataVersion { name, .. }
            | Self::ChangedMetadata { name }
            | Self::OtherContract { name, .. }
            | Self::Corrupt { name, .. } => {
                Some(format!("make it again: `sandbox image build {name}`").into())
            }
        }
    }

    /// For `map_err` on operations with one path.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
