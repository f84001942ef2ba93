//! The sandbox's own disk: a qcow2 file that holds only the differences from its base image.

use sandbox_host::hint::Hint;
use std::io;
use std::path::{Path, PathBuf};

use imago::file::File as ImageFile;
use imago::qcow2::Qcow2CreateBuilder;
use imago::{FormatCreateBuilder, Storage, StorageCreateOptions};

/// The overlay could not be created.
#[derive(Debug, thiserror::Error)]
#[error("could not create the disk overlay `{}`", path.display())]
pub struct OverlayError {
    /// The overlay's path.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl OverlayError {
    /// Returns what the user can do about the error.
    pub fn hint(&self) -> Option<Hint> {
        (self.source.kind() == io::ErrorKind::StorageFull).then(|| {
            "the disk is full: free space there, or set `SANDBOX_HOME` to a directory on a larger disk"
                .into()
        })
    }
}

/// Creates an overlay of `size_bytes`, a multiple of 512, on the qcow2 file `base`. The path of
/// `base` must be absolute, since the overlay records it unchanged. The overlay's mode is 0600.
///
/// # Errors
///
/// If the file cannot be created or written.
pub fn create(path: &Path, base: &Path, size_bytes: u64) -> Result<(), OverlayError> {
    let create = || -> io::Result<()> {
        let file = ImageFile::create_open(StorageCreateOptions::new().filename(path))?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Qcow2CreateBuilder::<ImageFile>::new(file)
            .size(size_bytes)
            .backing(base.to_string_lossy().into_owned(), "qcow2".into())
            .create()
    };
    create().map_err(|source| OverlayError {
        path: path.into(),
        source,
    })
}
