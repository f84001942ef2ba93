//! Writes files of the guest with their mode and owner.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file or directory that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write `{path}`")]
pub(crate) struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

/// The number of a user and of the group with the same number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner(pub(crate) u32);

/// The superuser.
pub(crate) const ROOT: Owner = Owner(0);

/// The user `dev` of the image.
pub(crate) const DEV: Owner = Owner(1000);

/// Creates a missing directory with this mode and owner, and missing parents
/// (0755, root).
pub(crate) fn make_directory(path: &Path, mode: u32, owner: Owner) -> Result<(), WriteError> {
    if path.is_dir() {
        return Ok(());
    }
    let create = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(mode).create(path)?;
        std::os::unix::fs::chown(path, Some(owner.0), Some(owner.0))
    };
    create().map_err(WriteError::at(path))
}

/// Replaces a file. A link with this name is replaced, not followed. Only root
/// can read the content before mode and owner are set.
pub(crate) fn write(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Owner,
) -> Result<(), WriteError> {
    let replace = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(content)?;
        fchown(&file, Some(owner.0), Some(owner.0))?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    replace().map_err(WriteError::at(path))
}

/// Appends to a file. Creates a missing file (0644, root).
pub(crate) fn append(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(WriteError::at(path))
}

/// Removes a file if it exists.
pub(crate) fn remove(path: &Path) -> Result<(), WriteError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WriteError::at(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Owner {
        Owner(rustix::process::getuid().as_raw())
    }

    #[test]
    fn write_replaces_a_link_and_keeps_its_target() {
        let directory = std::env::temp_dir().join(format!("guest-agent-{}", std::process::id()));
        make_directory(&directory, 0o700, me()).unwrap();
        let target = directory.join("target");
        let link = directory.join("link");
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();

        write(&link, b"secret", 0o640, me()).unwrap();
        append(&link, b"!").unwrap();

        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(fs::read_to_string(&link).unwrap(), "secret!");
        let mode = fs::symlink_metadata(&link).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        remove(&link).unwrap();
        remove(&link).unwrap();
        assert!(!link.exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
