//! The template store: one directory per template.
//!
//! ```text
//! <key>/template.json       the record; its modification time is the time of the last use
//! <key>/ram                 the guest's memory
//! <key>/state               the state of the devices
//! <key>/disk.qcow2          the guest's writes, on the base image's disk
//! .partial-<key>/           a build in progress, which holds the lock `lock` in it
//! .removed-…/               a directory that is being removed
//! lock                      held while directories are added or removed
//! ```
//!
//! A directory gets its final name once all its files are written, and loses it before any of them
//! is removed. So a directory named by a key is complete, unless something else damaged it. A
//! removed template continues to serve the processes that have its files open.
//!
//! Functions that look ([`TemplateStore::find`], [`TemplateStore::list`],
//! [`TemplateStore::survey`], …) change nothing. [`TemplateStore::begin`],
//! [`TemplateStore::discard`], [`TemplateStore::evict`] and [`TemplateStore::collect_garbage`]
//! remove.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sandbox_host::directories::Directories;
use sandbox_host::files::{self, FileError};
use sandbox_host::lock::{DirectoryLock, LockAttempt};
use sandbox_spec::{Digest, TemplateKey};
use serde::{Deserialize, Serialize};

use super::directory::{DISK, RAM, STATE, TemplateDirectory};
use super::error::{TemplateError, TemplateFault};
use super::metadata::{self, Metadata};

pub(super) const METADATA: &str = "template.json";

pub(super) const PARTIAL_PREFIX: &str = ".partial-";
pub(super) const REMOVED_PREFIX: &str = ".removed-";

/// The lock of the store.
const STORE_LOCK: &str = "lock";
/// The lock in a partial directory.
pub(super) const BUILD_LOCK: &str = "lock";
/// The shape that a partial directory is for, which `template ls` shows.
pub(super) const BUILD_SHAPE: &str = "shape.json";

/// The longest record that is read, in bytes. A record has 1 KiB.
pub(super) const METADATA_LIMIT: u64 = 1 << 20;
/// The longest device state that is read, in bytes. A state has half a MiB.
const STATE_LIMIT: u64 = 64 << 20;

/// The template store of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateStore {
    root: PathBuf,
    pub(super) logs: PathBuf,
}

/// A template that can be restored.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Its name.
    pub key: TemplateKey,
    /// Its record.
    pub metadata: Metadata,
    /// Its files.
    pub directory: TemplateDirectory,
}

/// The exclusive lock of the store: directories are added and removed under it.
pub(super) struct StoreLock {
    _file: File,
}

impl TemplateStore {
    /// Returns the store in these directories. Nothing is created before the first build.
    pub fn new(directories: &Directories) -> Self {
        Self {
            root: directories.templates(),
            logs: directories.build_logs(),
        }
    }

    /// Returns the directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the template `key` if it is complete, and logs why not if it is broken.
    ///
    /// In a complete template, all files have their recorded length and the state has its recorded
    /// content. A broken template stays until [`TemplateStore::begin`] replaces it, or until
    /// [`TemplateStore::discard`] or [`TemplateStore::evict`] removes it.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn find(&self, key: &TemplateKey) -> Result<Option<Template>, TemplateError> {
        match self.load_with_state(key)? {
            None => Ok(None),
            Some(Ok(template)) => Ok(Some(template)),
            Some(Err(fault @ TemplateFault::OtherVersion(_))) => {
                tracing::info!(%key, %fault, "ignoring a template of another version");
                Ok(None)
            }
            Some(Err(fault)) => {
                tracing::warn!(%key, %fault, "ignoring a broken template");
                Ok(None)
            }
        }
    }

    /// Returns the template `key` if it is complete, as [`TemplateStore::find`] does, and logs
    /// nothing.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn peek(&self, key: &TemplateKey) -> Result<Option<Template>, TemplateError> {
        Ok(self.load_with_state(key)?.and_then(Result::ok))
    }

    /// Records that the template `key` is used now.
    ///
    /// A failure is only logged, since it has no other effect than an earlier eviction.
    pub fn touch(&self, key: &TemplateKey) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
        const NOW: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let now = Timestamps {
            last_access: NOW,
            last_modification: NOW,
        };
        let path = self.directory(key).join(METADATA);
        if let Err(error) = utimensat(CWD, &path, &now, AtFlags::empty()) {
            tracing::debug!(%key, %error, "could not record the use of a template");
        }
    }

    /// Removes the template `key`, complete or broken. Processes that have its files open keep
    /// them. A build of `key` continues.
    ///
    /// Returns the size that it had on the disk, in bytes, and `None` if the template did not
    /// exist.
    ///
    /// # Errors
    ///
    /// A file cannot be removed.
    pub fn discard(&self, key: &TemplateKey) -> Result<Option<u64>, TemplateError> {
        let removed = match self.lock_if_present()? {
            Some(lock) => self.set_aside(&lock, &self.directory(key))?,
            None => None,
        };
        match removed {
            Some(path) => {
                let bytes = files::allocated_bytes(&path);
                files::remove_tree_if_present(&path)?;
                Ok(Some(bytes))
            }
            None => Ok(None),
        }
    }

    /// Removes the directories of interrupted builds and removals. Returns the size that they had
    /// on the disk, in bytes.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or a file cannot be removed.
    pub fn collect_garbage(&self) -> Result<u64, TemplateError> {
        let Some(lock) = self.lock_if_present()? else {
            return Ok(0);
        };
        let orphans = self.set_orphans_aside(&lock)?;
        drop(lock);
        let bytes = orphans
            .iter()
            .map(|path| files::allocated_bytes(path))
            .sum();
        remove_all(&orphans)?;
        Ok(bytes)
    }

    pub(super) fn directory(&self, key: &TemplateKey) -> TemplateDirectory {
        TemplateDirectory::new(self.root.join(key.hex()))
    }

    /// Returns the directory of a build. A relative name in it stays valid when the directory gets
    /// its final name, since both names have the same depth.
    pub(super) fn partial(&self, key: &TemplateKey) -> TemplateDirectory {
        TemplateDirectory::new(self.root.join(format!("{PARTIAL_PREFIX}{}", key.hex())))
    }

    /// Creates the store's directories and takes its lock.
    pub(super) fn create(&self) -> Result<StoreLock, TemplateError> {
        files::create_private_directory(&self.root)?;
        files::create_private_directory(&self.logs)?;
        self.lock()
    }

    pub(super) fn lock(&self) -> Result<StoreLock, TemplateError> {
        let path = self.root.join(STORE_LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(FileError::new("open the lock", &path))?;
        file.lock().map_err(FileError::new("lock", &path))?;
        Ok(StoreLock { _file: file })
    }

    /// Takes the lock; `None` if the store does not exist.
    pub(super) fn lock_if_present(&self) -> Result<Option<StoreLock>, TemplateError> {
        if self.root.is_dir() {
            self.lock().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Takes the lock for reading, without creating its file: while the returned file is open, no
    /// directory is added or removed. `None` if the store has no lock, as after a partial copy.
    pub(super) fn lock_for_reading(&self) -> Result<Option<File>, TemplateError> {
        let path = self.root.join(STORE_LOCK);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(FileError::new("open the lock", &path))?,
        };
        file.lock_shared().map_err(FileError::new("lock", &path))?;
        Ok(Some(file))
    }

    /// Renames a directory, so that it leaves the store at once. The caller removes it after
    /// releasing the lock, since a removal can take long. Returns the new name, and `None` if the
    /// directory does not exist.
    pub(super) fn set_aside(
        &self,
        _lock: &StoreLock,
        path: &Path,
    ) -> Result<Option<PathBuf>, TemplateError> {
        // A new parent directory could not be created on a full disk.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{REMOVED_PREFIX}{}-{count}", std::process::id());
            let aside = self.root.join(name);
            match fs::rename(path, &aside) {
                Ok(()) => return Ok(Some(aside)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if is_occupied(&error) => {}
                Err(error) => return Err(FileError::new("remove", path)(error).into()),
            }
        }
    }

    /// Sets aside the directories of builds that died. Returns them and the directories that were
    /// set aside before.
    pub(super) fn set_orphans_aside(
        &self,
        lock: &StoreLock,
    ) -> Result<Vec<PathBuf>, TemplateError> {
        let mut orphans = Vec::new();
        for name in files::names_in(&self.root)? {
            let path = self.root.join(&name);
            if name.starts_with(REMOVED_PREFIX) {
                orphans.push(path);
            } else if name.starts_with(PARTIAL_PREFIX) {
                match DirectoryLock::try_acquire(&path.join(BUILD_LOCK)) {
                    Ok(LockAttempt::Acquired(_build)) => {
                        orphans.extend(self.set_aside(lock, &path)?);
                    }
                    Ok(LockAttempt::Busy) => {}
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "ignoring a foreign file in the template store"
                    ),
                }
            }
        }
        Ok(orphans)
    }

    /// Loads the template `key` as [`TemplateStore::load`] does, and checks the content of its
    /// state.
    pub(super) fn load_with_state(
        &self,
        key: &TemplateKey,
    ) -> Result<Option<Result<Template, TemplateFault>>, TemplateError> {
        let template = match self.load(key)? {
            Some(Ok(template)) => template,
            other => return Ok(other),
        };
        let state = files::read_if_present(&template.directory.state(), STATE_LIMIT)?;
        Ok(Some(match state {
            None => Err(TemplateFault::Missing(STATE)),
            Some(bytes) if Digest::of(&bytes).hex() != template.metadata.files.state.sha256 => {
                Err(TemplateFault::Changed(STATE))
            }
            Some(_) => Ok(template),
        }))
    }

    /// Loads the template `key` and checks its record and the lengths of its files. `None` if the
    /// template does not exist.
    pub(super) fn load(
        &self,
        key: &TemplateKey,
    ) -> Result<Option<Result<Template, TemplateFault>>, TemplateError> {
        let directory = self.directory(key);
        let Some(bytes) = files::read_if_present(&directory.join(METADATA), METADATA_LIMIT)? else {
            return Ok(directory
                .is_dir()
                .then_some(Err(TemplateFault::Missing(METADATA))));
        };
        let metadata = match metadata::parse(&bytes, key) {
            Ok(metadata) => metadata,
            Err(fault) => return Ok(Some(Err(fault))),
        };
        let expected = [
            (RAM, metadata.files.ram_bytes),
            (STATE, metadata.files.state.bytes),
            (DISK, metadata.files.disk_bytes),
        ];
        for (file, expected_bytes) in expected {
            let path = directory.join(file);
            match fs::metadata(&path) {
                Ok(found) if found.len() == expected_bytes => {}
                Ok(found) => {
                    return Ok(Some(Err(TemplateFault::WrongLength {
                        file,
                        expected_bytes,
                        found_bytes: found.len(),
                    })));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Some(Err(TemplateFault::Missing(file))));
                }
                Err(error) => return Err(FileError::new("inspect", path)(error).into()),
            }
        }
        Ok(Some(Ok(Template {
            key: *key,
            metadata,
            directory,
        })))
    }
}

/// Returns whether a rename failed because its target is a directory that is not empty.
pub(super) fn is_occupied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
    )
}

pub(super) fn remove_all(paths: &[PathBuf]) -> Result<(), TemplateError> {
    for path in paths {
        files::remove_tree_if_present(path)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
