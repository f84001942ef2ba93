//! The disk usage of the image store, and its garbage.

use std::path::PathBuf;

use sandbox_host::files::{allocated_bytes, names_in};
use sandbox_host::lock::DirectoryLock;

use super::error::ImageError;
use super::store::ImageStore;

/// The disk usage of the store.
#[derive(Debug, Default)]
pub struct StoreUsage {
    /// The size of the store on the disk, in bytes.
    pub allocated_bytes: u64,
    /// Files of images that were replaced; [`ImageStore::collect_garbage`] removes them.
    pub blobs: Vec<Garbage>,
    /// Staging directories of interrupted builds;
    /// [`build::collect_garbage`](crate::image::build::collect_garbage) removes them.
    pub builds: Vec<Garbage>,
}

/// An unused file or directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Its path.
    pub path: PathBuf,
    /// Its size on the disk, in bytes.
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
    /// Returns the disk usage of the store. Changes nothing.
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
        for name in names_in(&staging)? {
            let build = Garbage::at(staging.join(name));
            usage.allocated_bytes += build.allocated_bytes;
            if !DirectoryLock::is_held(&build.path.join("lock")) {
                usage.builds.push(build);
            }
        }
        Ok(usage)
    }
}
