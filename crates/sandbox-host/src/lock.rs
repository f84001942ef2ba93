//! The lock of a directory, whose holder can delete the directory.
//!
//! A `flock(2)` belongs to the open file. So a child process inherits it with the descriptor, and
//! the kernel releases it when its last holder dies. A process could lock a file that the previous
//! holder has deleted, so it compares the file with the path once it holds the lock.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::files::{self, FileError};

/// A held lock. It is released when it is dropped or the process dies.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

/// The result of an attempt to lock.
#[derive(Debug)]
pub enum LockAttempt {
    /// This process holds the lock.
    Acquired(DirectoryLock),
    /// Another process holds it.
    Busy,
}

impl DirectoryLock {
    /// Tries to lock `path` without waiting. Creates the file with mode 0600 in its existing
    /// directory.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be created, locked or inspected.
    pub fn try_acquire(path: &Path) -> Result<LockAttempt, FileError> {
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(FileError::new("open the lock", path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(LockAttempt::Busy),
                Err(TryLockError::Error(error)) => {
                    return Err(FileError::new("lock", path)(error));
                }
            }
            let locked = file.metadata().map_err(FileError::new("inspect", path))?;
            match fs::metadata(path) {
                Ok(named) if files::is_same_file(&locked, &named) => {
                    return Ok(LockAttempt::Acquired(Self { file }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FileError::new("inspect", path)(error)),
            }
        }
    }

    /// Returns the lock that this process inherited from its parent.
    pub fn inherited(descriptor: OwnedFd) -> Self {
        Self {
            file: File::from(descriptor),
        }
    }

    /// Returns whether a process holds the lock at `path`.
    pub fn is_held(path: &Path) -> bool {
        File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

impl AsFd for DirectoryLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_lock_is_busy_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let LockAttempt::Acquired(first) = DirectoryLock::try_acquire(&path).unwrap() else {
            panic!("a fresh lock is free");
        };
        assert!(matches!(
            DirectoryLock::try_acquire(&path).unwrap(),
            LockAttempt::Busy
        ));
        assert!(DirectoryLock::is_held(&path));
        drop(first);
        assert!(!DirectoryLock::is_held(&path));
        assert!(matches!(
            DirectoryLock::try_acquire(&path).unwrap(),
            LockAttempt::Acquired(_)
        ));
    }

    #[test]
    fn deleted_lock_file_is_created_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let LockAttempt::Acquired(_first) = DirectoryLock::try_acquire(&path).unwrap() else {
            panic!("a fresh lock is free");
        };
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            DirectoryLock::try_acquire(&path).unwrap(),
            LockAttempt::Acquired(_)
        ));
    }
}
