//! Durable writes and hashing for the image store.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sandbox_host::files::{FileError, synchronize_directory, write_private};
use sandbox_spec::Digest;
use sha2::{Digest as _, Sha256};

/// The number of bytes that are hashed at once. At this size, the cost of the system calls is
/// negligible.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// Opens `path` for reading and writing. Creates a missing file with mode 0600, and keeps the
/// content of an existing one.
pub(super) fn open_private(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(FileError::new("open", path))
}

/// Replaces the content of `path` by `bytes`. Readers see the old or the new content, also after a
/// power loss.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_private(path, bytes)?;
    synchronize_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Returns the digest and the length in bytes of the file at `path`.
pub(super) fn hash(path: &Path) -> Result<(Digest, u64), FileError> {
    let mut file = File::open(path).map_err(FileError::new("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut size_bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_hasher(hasher), size_bytes)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size_bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::new("read", path)(error)),
        }
    }
}
