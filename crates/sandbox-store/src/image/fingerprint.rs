//! Fingerprints of stored files, which detect changes without hashing.
//!
//! Hashing a base disk takes seconds, a `stat` takes microseconds. The store records size,
//! modification time and inode of each verified file. While these are the same, the content counts
//! as unchanged.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use sandbox_host::files::FileError;
use sandbox_spec::Digest;
use serde::{Deserialize, Serialize};

use super::files;

/// The properties of a file that stat(2) returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    pub(super) size_bytes: u64,
    modified_seconds: i64,
    modified_nanoseconds: i64,
    inode: u64,
}

impl Fingerprint {
    /// Returns the fingerprint of the file at `path`, and `None` if it is not a regular file.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, FileError> {
        match fs::symlink_metadata(path) {
            Ok(status) if status.is_file() => Ok(Some(Self {
                size_bytes: status.len(),
                modified_seconds: status.mtime(),
                modified_nanoseconds: status.mtime_nsec(),
                inode: status.ino(),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::new("inspect", path)(error)),
        }
    }
}

/// The fingerprints of an image's files, `images/<name>/fingerprints.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprints(BTreeMap<Digest, Fingerprint>);

impl Fingerprints {
    /// Reads the file at `path`. It is a cache, so a missing or damaged file counts as empty.
    pub(super) fn read(path: &Path) -> Self {
        fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(self).expect("a map of numbers serializes to JSON");
        files::replace(path, &bytes)
    }

    /// Returns whether the blob `digest` had this fingerprint at its last verification.
    pub(super) fn confirm(&self, digest: &Digest, fingerprint: &Fingerprint) -> bool {
        self.0.get(digest) == Some(fingerprint)
    }

    /// Records the fingerprint of the verified blob `digest`.
    pub(super) fn record(&mut self, digest: Digest, fingerprint: Fingerprint) {
        self.0.insert(digest, fingerprint);
    }
}
