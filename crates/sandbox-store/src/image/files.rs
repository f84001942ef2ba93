//! Private directories, durable writes and hashing, as the store needs them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use sandbox_spec::Digest;

/// How much is hashed at once; large enough that system calls do not count.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// Creates `path` and its missing parents, each with mode 0700.
pub(super) fn create_private_directory(path: &Path) -> Result<(), ImageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(ImageError::io("create directory", path))
}

/// Opens `path` for writing with mode 0600, creating it when it is missing; keeps its content.
pub(super) fn open_private(path: &Path) -> Result<File, ImageError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(ImageError::io("open", path))
}

/// Replaces `path` by `bytes` so that a reader, or a power loss, meets the old or the new content.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let write = || -> io::Result<()> {
        let mut temporary = tempfile::Builder::new()
            .prefix(".tmp-")
            .tempfile_in(directory)?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path)?;
        Ok(())
    };
    write().map_err(ImageError::io("write", path))?;
    synchronize_directory(directory)
}

/// Makes renames and removals in `path` durable.
pub(super) fn synchronize_directory(path: &Path) -> Result<(), ImageError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(ImageError::io("synchronize", path))
}

/// Digest and length in bytes of the file at `path`.
pub(super) fn hash(path: &Path) -> Result<(Digest, u64), ImageError> {
    let mut file = File::open(path).map_err(ImageError::io("open", path))?;
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
            Err(error) => return Err(ImageError::io("read", path)(error)),
        }
    }
}

/// The names in the directory `path`, sorted; none when it does not exist.
pub(super) fn list_directory(path: &Path) -> Result<Vec<String>, ImageError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(ImageError::io("list", path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ImageError::io("list", path))?;
        // Names that are not text were not written by this program.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes a file that may be gone already.
pub(super) fn remove_file(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(ImageError::io("remove", path)),
    }
}
