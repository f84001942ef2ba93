//! Private files and directories, with modes 0600 and 0700.
//!
//! A file is written to a temporary name, flushed and renamed. So neither a reader nor a crash sees
//! a partial file.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::hint::Hint;

/// A file operation that failed, with its path.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} `{}`", path.display())]
pub struct FileError {
    /// The verb, as in "could not *write*".
    pub action: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Returns a function that wraps an I/O error, for `map_err`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self {
            action,
            path,
            source,
        }
    }

    /// Returns a hint for a full disk and for missing permissions.
    pub fn hint(&self) -> Option<Hint> {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                "the disk is full: free space there, or set `SANDBOX_HOME` to a directory on a larger disk"
                    .into(),
            ),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(format!(
                "make `{}` accessible to you, or set `SANDBOX_HOME` to another directory",
                self.path.parent().unwrap_or(&self.path).display()
            ).into()),
            _ => None,
        }
    }
}

/// Creates a directory and its missing parents, each with mode 0700.
pub fn create_private_directory(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::new("create the directory", path))
}

/// Writes a file with mode 0600 in one step: temporary name, flush, rename.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(directory)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(FileError::new("write", path))
}

/// Writes a file with mode 0600 that has no reader after a crash, so it is not flushed to the disk.
pub fn write_private_volatile(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)?.write_all(content)
    };
    write().map_err(FileError::new("write", path))
}

/// Reads at most `limit` bytes of a file; `None` if it does not exist.
pub fn read_if_present(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    use std::io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::new("read", path)(error)),
    };
    let mut content = Vec::new();
    file.take(limit)
        .read_to_end(&mut content)
        .map_err(FileError::new("read", path))?;
    Ok(Some(content))
}

/// Reads a file; `None` if it does not exist. A file with more than `limit` bytes is an error, for
/// content that changes its meaning if it is truncated.
pub fn read_whole_if_present(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let content = read_if_present(path, limit.saturating_add(1))?;
    if content
        .as_ref()
        .is_some_and(|content| content.len() as u64 > limit)
    {
        let too_large = io::ErrorKind::FileTooLarge.into();
        return Err(FileError::new("read", path)(too_large));
    }
    Ok(content)
}

/// Removes a file if it exists.
pub fn remove_file_if_present(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory and its content if it exists.
pub fn remove_tree_if_present(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove the directory", path)(error))
        }
        _ => Ok(()),
    }
}

/// Flushes renames and removals in a directory to the disk.
pub fn synchronize_directory(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::new("synchronize", path))
}

/// Returns the bytes that an ordinary user can still write to the file system of `path`.
pub fn free_bytes(path: &Path) -> Result<u64, FileError> {
    let figures = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| FileError::new("inspect", path)(errno.into()))?;
    Ok(figures.blocks_available() * figures.fragment_size())
}

/// Returns the bytes that a file, or a directory with its content, uses on the disk, without holes.
///
/// A file that disappears or cannot be read counts as 0.
pub fn allocated_bytes(path: &Path) -> u64 {
    /// The unit of `st_blocks` on every file system (stat(2)).
    const BLOCK_BYTES: u64 = 512;
    let Ok(found) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = found.blocks() * BLOCK_BYTES;
    if !found.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries
        .map(|entry| allocated_bytes(&entry.path()))
        .sum::<u64>()
}

/// Returns the sorted names in a directory that are UTF-8; none if it does not exist.
pub fn names_in(path: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new("read the directory", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::new("read the directory", path))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Returns whether both are the metadata of one file, by device and inode.
pub fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    one.dev() == other.dev() && one.ino() == other.ino()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_file_is_replaced_with_mode_0600() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        create_private_directory(path.parent().unwrap()).unwrap();
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let parent = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(parent.mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn allocated_bytes_count_content_without_holes() {
        let directory = tempfile::tempdir().unwrap();
        let sparse = directory.path().join("sparse");
        File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
        assert!(allocated_bytes(&sparse) < 1 << 20);
        let empty = allocated_bytes(directory.path());
        create_private_directory(&directory.path().join("a")).unwrap();
        let full = directory.path().join("a/full");
        fs::write(&full, vec![1; 1 << 20]).unwrap();
        File::open(&full).unwrap().sync_all().unwrap();
        assert!(allocated_bytes(&full) >= 1 << 20);
        assert!(allocated_bytes(directory.path()) >= empty + (1 << 20));
        assert_eq!(allocated_bytes(&directory.path().join("absent")), 0);
        assert_eq!(names_in(directory.path()).unwrap(), ["a", "sparse"]);
        assert!(names_in(&full.join("absent")).is_err());
        let absent = directory.path().join("absent");
        assert!(names_in(&absent).unwrap().is_empty());
    }

    #[test]
    fn read_is_bounded_and_absent_file_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(read_if_present(&path, 10).unwrap().is_none());
        fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(read_if_present(&path, 10).unwrap().unwrap().len(), 10);
        remove_file_if_present(&path).unwrap();
        remove_file_if_present(&path).unwrap();
    }
}
