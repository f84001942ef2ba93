//! The template store: one directory a template.
//!
//! ```text
//! <key>/template.json       the record; its time of change is that of the last use
//! <key>/ram                 the guest's memory
//! <key>/state               the devices' state
//! <key>/disk.qcow2          what the guest has written, on the base image
//! .partial-<key>/           a build at work, which holds the lock of `lock` in it
//! .removed-…/               on its way out
//! lock                      held while directories come and go
//! ```
//!
//! A directory gets its final name when all in it is written, and loses it before anything in
//! it is removed: what bears a key is whole, but for damage from outside. A removed template
//! goes on serving those who have its files open.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::directory::{DISK, RAM, STATE, TemplateDirectory};
use super::error::{TemplateError, TemplateFault};
use super::metadata::{self, Metadata};
use sandbox_host::directories::Directories;
use sandbox_host::files;
use sandbox_host::files::FileError;
use sandbox_host::lock::{DirectoryLock, LockAttempt};
use sandbox_spec::{Digest, TemplateKey};

pub(super) const METADATA: &str = "template.json";

pub(super) const PARTIAL_PREFIX: &str = ".partial-";
pub(super) const REMOVED_PREFIX: &str = ".removed-";

/// The lock of a partial directory.
pub(super) const BUILD_LOCK: &str = "lock";
/// The shape that a partial directory is for, for people.
pub(super) const BUILD_SHAPE: &str = "shape.json";

/// A record is a KiB; anything larger is none of ours.
pub(super) const METADATA_LIMIT: u64 = 1 << 20;
/// The state of the devices is half a MiB; anything of this size is something else.
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
    /// What it is.
    pub metadata: Metadata,
    /// Its files.
    pub directory: TemplateDirectory,
}

/// Held while directories come and go.
pub(super) struct StoreLock {
    _file: File,
}

impl TemplateStore {
    /// The store of these directories. Nothing is created before something is stored.
    pub fn new(directories: &Directories) -> Self {
        Self {
            root: directories.templates(),
            logs: directories.build_logs(),
        }
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The template `key`, if it is whole: its files are there, of the recorded length, and the
    /// small one of the recorded content. A broken one is removed, which is logged. One of
    /// another version stays and is not found.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn find(&self, key: &TemplateKey) -> Result<Option<Template>, TemplateError> {
        match self.load_whole(key)? {
            None => Ok(None),
            Some(Ok(template)) => Ok(Some(template)),
            Some(Err(fault)) => {
                if is_removed_for(key, &fault) {
                    self.discard(key)?;
                }
                Ok(None)
            }
        }
    }

    /// The template `key`, if it is whole; changes nothing.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn peek(&self, key: &TemplateKey) -> Result<Option<Template>, TemplateError> {
        Ok(self.load_whole(key)?.and_then(Result::ok))
    }

    /// Notes that the template is used now. A failure is only logged: the template may be
    /// removed sooner, nothing else.
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
            tracing::debug!(%key, %error, "cannot note the use of a template");
        }
    }

    /// Removes the template `key`, whatever its state; those who have its files open keep them.
    /// A build of it goes on. Returns the bytes that it took on the disk, `None` if there was
    /// no such template.
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

    /// Removes what builds and removals that were cut short have left; returns its bytes.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or a file cannot be removed.
    pub fn sweep(&self) -> Result<u64, TemplateError> {
        let Some(lock) = self.lock_if_present()? else {
            return Ok(0);
        };
        let removed = self.set_leftovers_aside(&lock)?;
        drop(lock);
        let bytes = removed
            .iter()
            .map(|path| files::allocated_bytes(path))
            .sum();
        remove_all(&removed)?;
        Ok(bytes)
    }

    pub(super) fn directory(&self, key: &TemplateKey) -> TemplateDirectory {
        TemplateDirectory::new(self.root.join(key.hex()))
    }

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
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.root.join("lock");
        let file = File::options()
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

    /// The lock; `None` where nothing was ever stored.
    pub(super) fn lock_if_present(&self) -> Result<Option<StoreLock>, TemplateError> {
        if self.root.is_dir() {
            self.lock().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Takes a directory out of the store by a rename; to be removed once the lock is free, as
    /// that may take long. `None` if there is no such directory.
    pub(super) fn set_aside(
        &self,
        _lock: &StoreLock,
        path: &Path,
    ) -> Result<Option<PathBuf>, TemplateError> {
        // Nothing is created for it: on a full disk, that would fail.
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

    /// Sets aside the directories of builds that have died; returns them and those that were
    /// set aside before.
    pub(super) fn set_leftovers_aside(
        &self,
        lock: &StoreLock,
    ) -> Result<Vec<PathBuf>, TemplateError> {
        let mut removed = Vec::new();
        for name in files::names_in(&self.root)? {
            let path = self.root.join(&name);
            if name.starts_with(REMOVED_PREFIX) {
                removed.push(path);
            } else if name.starts_with(PARTIAL_PREFIX) {
                match DirectoryLock::try_acquire(&path.join(BUILD_LOCK)) {
                    Ok(LockAttempt::Acquired(_build)) => {
                        removed.extend(self.set_aside(lock, &path)?);
                    }
                    Ok(LockAttempt::Busy) => {}
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "something in the template store is not its own"
                    ),
                }
            }
        }
        Ok(removed)
    }

    /// As [`TemplateStore::load`], with a look into the small file.
    pub(super) fn load_whole(
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

    /// The template `key` by its record and the lengths of its files.
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
                Err(error) => return Err(FileError::new("look at", path)(error).into()),
            }
        }
        Ok(Some(Ok(Template {
            key: *key,
            metadata,
            directory,
        })))
    }
}

/// Whether a template with this fault is to go; says so.
pub(super) fn is_removed_for(key: &TemplateKey, fault: &TemplateFault) -> bool {
    // Another version of this program may still want it.
    if let TemplateFault::OtherVersion(version) = fault {
        tracing::info!(%key, version, "a template of another version is not used");
        return false;
    }
    tracing::warn!(%key, %fault, "a broken template is removed");
    true
}

/// A rename met a directory that is not empty.
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
