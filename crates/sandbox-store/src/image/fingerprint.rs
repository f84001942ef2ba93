//! A cheap way to notice that a stored file was touched.
//!
//! Hashing a base disk takes seconds, a `stat` microseconds. The store records size, time of
//! modification and inode of each file when it has verified it; as long as they are the same
//! the content is taken to be the same too.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::files;
use sandbox_spec::Digest;

/// What `stat` says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    pub(super) size_bytes: u64,
    modified_seconds: i64,
    modified_nanoseconds: i64,
    inode: u64,
}

impl Fingerprint {
    /// The fingerprint of the file at `path`; `None` when there is no regular file.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, ImageError> {
        match fs::symlink_metadata(path) {
            Ok(status) if status.is_file() => Ok(Some(Self {
                size_bytes: status.len(),
                modified_seconds: status.mtime(),
                modified_nanoseconds: status.mtime_nsec(),
                inode: status.ino(),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io("inspect", path)(error)),
        }
    }
}

/// The fingerprints of an image's files, `images/<name>/fingerprints.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprints(BTreeMap<Digest, Fingerprint>);

impl Fingerprints {
    /// Reads the file at `path`. It is only a cache: missing or damaged, it is empty.
    pub(super) fn read(path: &Path) -> Self {
        fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Writes the file at `path`.
    pub(super) fn write(&self, path: &Path) -> Result<(), ImageError> {
        let bytes = serde_json::to_vec(self).expect("a map of numbers serializes to JSON");
        files::replace(path, &bytes)
    }

    /// Whether the blob `digest` had this fingerprint when it was last verified.
    pub(super) fn confirm(&self, digest: &Digest, fingerprint: &Fingerprint) -> bool {
        self.0.get(digest) == Some(fingerprint)
    }

    /// Records that the blob `digest` was verified with this fingerprint.
    pub(super) fn record(&mut self, digest: Digest, fingerprint: Fingerprint) {
        self.0.insert(digest, fingerprint);
    }
}
