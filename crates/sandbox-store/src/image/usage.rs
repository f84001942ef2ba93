//! What the store takes on the disk, and what of that nothing needs.

use std::path::PathBuf;

use sandbox_host::files::allocated_bytes;
use sandbox_host::lock::DirectoryLock;

use super::error::ImageError;
use super::files;
use super::store::ImageStore;

/// What the store takes on the disk.
#[derive(Debug, Default)]
pub struct StoreUsage {
    /// All of it, in bytes.
    pub allocated_bytes: u64,
    /// Files of images that were replaced; [`ImageStore::collect_garbage`] removes them.
    pub blobs: Vec<Garbage>,
    /// What builds have left that were cut short; [`sweep`](crate::image::build::sweep) removes
    /// it.
    pub builds: Vec<Garbage>,
}

/// A file or directory that nothing needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Where it is.
    pub path: PathBuf,
    /// What it takes on the disk, in bytes.
    pub allocated_bytes: u64,
}

impl Garbage {
    fn at(path: PathBuf) -> Self {
        let allocated_bytes = allocated_bytes(&path);
        Self {
            path,
            allocated_bytes,
        }
    }
}

impl ImageStore {
    /// Looks at what the store takes on the disk, and changes nothing.
    ///
    /// # Errors
    ///
    /// A directory cannot be listed.
    pub fn usage(&self) -> Result<StoreUsage, ImageError> {
        let parts = [self.root.join("blobs"), self.root.join("images")];
        let mut usage = StoreUsage {
            allocated_bytes: parts.iter().map(|part| allocated_bytes(part)).sum(),
            blobs: self
                .unreferenced_blobs()?
                .into_iter()
                .map(Garbage::at)
                .collect(),
            builds: Vec::new(),
        };
        let staging = self.staging();
        for name in files::list_directory(&staging)? {
            let build = Garbage::at(staging.join(name));
            usage.allocated_bytes += build.allocated_bytes;
            if !DirectoryLock::is_held(&build.path.join("lock")) {
                usage.builds.push(build);
            }
        }
        Ok(usage)
    }
}
