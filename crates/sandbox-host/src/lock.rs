//! The lock of a directory that may be deleted by whoever holds it.
//!
//! A `flock(2)` belongs to the open file, so it passes to a child process with
//! the descriptor and is free the moment its last holder dies. Whoever waits
//! on a file that the holder then deletes would own the lock of nothing;
//! therefore the path is looked at again once the lock is held.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::files::{self, FileError};

/// A held lock. Dropping it, or the death of the process, frees it.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

/// The answer to an attempt to lock.
#[derive(Debug)]
pub enum LockAttempt {
    /// The lock is ours.
    Acquired(DirectoryLock),
    /// Another process holds it.
    Busy,
}

impl DirectoryLock {
    /// Tries to lock `path` without waiting, creating the file (0600) in its
    /// existing directory.
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
            let locked = file.metadata().map_err(FileError::new("look at", path))?;
            match fs::metadata(path) {
                Ok(named) if files::is_same_file(&locked, &named) => {
                    return Ok(LockAttempt::Acquired(Self { file }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FileError::new("look at", path)(error)),
            }
        }
    }

    /// Takes over a lock that the parent process acquired.
    pub fn inherited(descriptor: OwnedFd) -> Self {
        Self {
            file: File::from(descriptor),
        }
    }

    /// True while some process holds the lock at `path`.
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
    fn a_second_holder_is_refused_until_the_first_is_gone() {
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
    fn a_deleted_lock_file_is_made_anew() {
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
