//! Errors of the image store.

use std::path::PathBuf;

use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use sandbox_spec::ImageReference;

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file or directory of the store cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A metadata file is not JSON of the known form.
    #[error("could not read the metadata of image `{name}` in `{}`", path.display())]
    UnreadableMetadata {
        /// The image.
        name: ImageReference,
        /// The metadata file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Another version of this program wrote a metadata file.
    #[error("image `{name}` has metadata version {found}, but this program reads version {known}")]
    UnknownMetadataVersion {
        /// The image.
        name: ImageReference,
        /// The version in the file.
        found: u64,
        /// The version of this program.
        known: u64,
    },
    /// A metadata file was changed after it was written.
    #[error("the metadata of image `{name}` does not match its digest")]
    ChangedMetadata {
        /// The image.
        name: ImageReference,
    },
    /// An image has another version of the contract between host and guest.
    #[error(
        "image `{name}` has version {found} of the contract between host and guest, \
         but this program needs version {known}"
    )]
    OtherContract {
        /// The image.
        name: ImageReference,
        /// The version of the image.
        found: u32,
        /// The version of this program.
        known: u32,
    },
    /// A file of an image differs from the stored file.
    #[error("image `{name}` is damaged: `{}` {damage}", path.display())]
    Corrupt {
        /// The image.
        name: ImageReference,
        /// The damaged file.
        path: PathBuf,
        /// The difference.
        damage: Damage,
    },
}

/// The difference between a file of an image and the stored file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file does not exist.
    #[error("is missing")]
    Missing,
    /// The file has another length.
    #[error("has {found_bytes} bytes instead of {expected_bytes}")]
    WrongSize {
        /// Length in the metadata, in bytes.
        expected_bytes: u64,
        /// Length of the file, in bytes.
        found_bytes: u64,
    },
    /// The file has the right length and another content.
    #[error("has changed since it was stored")]
    WrongContent,
}

impl ImageError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::UnknownMetadataVersion { name, found, known } if found > known => Some(
                Hint::text("use the newer `sandbox` that built it, or build it again: ")
                    .command(format!("image build {name}")),
            ),
            Self::UnreadableMetadata { name, .. }
            | Self::UnknownMetadataVersion { name, .. }
            | Self::ChangedMetadata { name }
            | Self::OtherContract { name, .. }
            | Self::Corrupt { name, .. } => {
                Some(Hint::text("build it again: ").command(format!("image build {name}")))
            }
        }
    }
}
