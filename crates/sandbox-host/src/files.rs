//! Private files and directories: modes 0600 and 0700, every file written to
//! a temporary name, flushed and renamed, so that no reader and no crash ever
//! sees half of one.

use crate::hint::Hint;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file operation that failed, with its path.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} `{}`", path.display())]
pub struct FileError {
    /// What was tried, as in "could not *write*".
    pub action: &'static str,
    /// The path it was tried on.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Wraps an I/O error; made for `map_err`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self {
            action,
            path,
            source,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                "the disk is full: free space there, or set `SANDBOX_HOME` to a directory on a larger disk"
                    .into(),
            ),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(format!(
                "make `{}` accessible to you, or set `SANDBOX_HOME` to a directory that is",
                self.path.parent().unwrap_or(&self.path).display()
            ).into()),
            _ => None,
        }
    }
}

/// Creates a directory and its missing parents, each 0700.
pub fn create_private_directory(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::new("create the directory", path))
}

/// Writes a file of mode 0600 in one step: temporary name, flush, rename.
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

/// Writes a file of mode 0600 that lives no longer than its reader: not
/// flushed to the disk, since after a crash nobody reads it.
pub fn write_private_volatile(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)?.write_all(content)
    };
    write().map_err(FileError::new("write", path))
}

/// Reads a file that may be absent, at most `limit` bytes of it.
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

/// The same, but a file with more than `limit` bytes is an error: for content
/// whose beginning means something else.
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

/// Removes a file; its absence is success.
pub fn remove_file_if_present(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with all it holds; its absence is success.
pub fn remove_tree_if_present(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove the directory", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes renames and removals in a directory durable.
pub fn synchronize_directory(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::new("synchronize", path))
}

/// The bytes that an ordinary user may still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> Result<u64, FileError> {
    let figures = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| FileError::new("look at", path)(errno.into()))?;
    Ok(figures.blocks_available() * figures.fragment_size())
}

/// The bytes that a file, or all files below a directory, take on the disk: without holes,
/// and each directory's own. What vanishes or cannot be read meanwhile counts for nothing.
pub fn allocated_bytes(path: &Path) -> u64 {
    /// The unit of `st_blocks` (stat(2)), whatever the file system's own is.
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

/// The names in a directory that are text, sorted; none where it does not exist.
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

/// True where both name the same file (device and inode).
pub fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    one.dev() == other.dev() && one.ino() == other.ino()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_replace_and_keep_their_mode() {
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
    fn holes_take_no_space_and_directories_count_what_they_hold() {
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
    fn reading_is_bounded_and_absence_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(read_if_present(&path, 10).unwrap().is_none());
        fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(read_if_present(&path, 10).unwrap().unwrap().len(), 10);
        remove_file_if_present(&path).unwrap();
        remove_file_if_present(&path).unwrap();
    }
}
