//! A template in the making: a directory of its own, locked by the process that fills it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::directory::{DISK, RAM, STATE, TemplateDirectory};
use super::error::TemplateError;
use super::metadata::{Metadata, StateFile, TemplateFiles};
use super::shape::{METADATA_VERSION, Shape};
use super::store::{
    BUILD_LOCK, BUILD_SHAPE, METADATA, Template, TemplateStore, is_occupied, is_removed_for,
    remove_all,
};
use sandbox_host::files;
use sandbox_host::files::FileError;
use sandbox_host::lock::{DirectoryLock, LockAttempt};
use sandbox_spec::{Digest, TemplateKey};

/// How much is free besides a template while one is made: sandboxes write, too.
const RESERVE_BYTES: u64 = 1 << 30;

/// What came of the wish to make a template.
#[derive(Debug)]
pub enum Begin {
    /// It is yours to make.
    Building(Build),
    /// Another process makes it right now.
    Busy,
    /// It is there.
    Exists(Template),
}

/// A template being made. Dropped without [`Build::commit`], it is removed; the death of the
/// process frees its lock, and the next who looks at the store removes it.
#[derive(Debug)]
pub struct Build {
    store: TemplateStore,
    key: TemplateKey,
    shape: Shape,
    directory: TemplateDirectory,
    begun: Instant,
    is_committed: bool,
    _lock: DirectoryLock,
}

impl TemplateStore {
    /// Begins to make the template for `shape`, unless it is there or being made.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub fn begin(&self, shape: Shape) -> Result<Begin, TemplateError> {
        let key = shape.key();
        let lock = self.create()?;
        let mut removed = self.set_leftovers_aside(&lock)?;
        match self.load_whole(&key)? {
            Some(Ok(template)) => return Ok(Begin::Exists(template)),
            Some(Err(fault)) if is_removed_for(&key, &fault) => {
                removed.extend(self.set_aside(&lock, &self.directory(&key))?);
            }
            _ => {}
        }
        let directory = self.partial(&key);
        files::create_private_directory(&directory)?;
        let build_lock = match DirectoryLock::try_acquire(&directory.join(BUILD_LOCK))? {
            LockAttempt::Acquired(lock) => lock,
            LockAttempt::Busy => return Ok(Begin::Busy),
        };
        let build = Build {
            store: self.clone(),
            key,
            shape,
            directory,
            begun: Instant::now(),
            is_committed: false,
            _lock: build_lock,
        };
        drop(lock);
        remove_all(&removed)?;
        self.remove_expired_logs()?;
        files::write_private_volatile(&build.directory.join(BUILD_SHAPE), &json(&build.shape))?;
        files::write_private_volatile(&build.log(), b"")?;
        Ok(Begin::Building(build))
    }

    /// Makes sure that a template of `memory_bytes` leaves some of the disk free. Its memory
    /// takes at most that much, usually a fraction.
    ///
    /// # Errors
    ///
    /// [`TemplateError::LittleSpace`].
    pub fn check_space(&self, memory_bytes: u64) -> Result<(), TemplateError> {
        // Until something is stored, the nearest parent counts.
        let Some(existing) = self.root().ancestors().find(|path| path.exists()) else {
            return Ok(());
        };
        self.judge_space(memory_bytes, files::free_bytes(existing)?)
    }

    fn judge_space(&self, memory_bytes: u64, free_bytes: u64) -> Result<(), TemplateError> {
        let wanted_bytes = memory_bytes.saturating_add(RESERVE_BYTES);
        if free_bytes >= wanted_bytes {
            return Ok(());
        }
        Err(TemplateError::LittleSpace {
            path: self.root().into(),
            free_bytes,
            wanted_bytes,
        })
    }
}

impl Build {
    /// The template's name.
    pub fn key(&self) -> TemplateKey {
        self.key
    }

    /// What it is for.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The private directory of the build. What else than the template's files lies in it when
    /// the build ends is removed. Its path is too long for sockets (unix(7)).
    pub fn directory(&self) -> &TemplateDirectory {
        &self.directory
    }

    /// Where the build's messages go, an empty file at first. It stays when the build fails.
    pub fn log(&self) -> PathBuf {
        self.store.log(&self.key)
    }

    /// Stores the template: writes its files to the disk, and gives them their name.
    /// `disk_bytes` is the size of its disk as the guest sees it. Takes as long as the disk
    /// takes to write what is not written yet.
    ///
    /// # Errors
    ///
    /// A file is missing or cannot be written; nothing is stored then.
    pub fn commit(mut self, disk_bytes: u64) -> Result<Template, TemplateError> {
        self.remove_scratch()?;
        let ram_bytes = synchronize(&self.directory.ram())?;
        let layer_bytes = synchronize(&self.directory.disk())?;
        let state_path = self.directory.state();
        synchronize(&state_path)?;
        let state = fs::read(&state_path).map_err(FileError::new("read", &state_path))?;
        let metadata = Metadata {
            version: METADATA_VERSION,
            shape: self.shape.clone(),
            disk_bytes,
            files: TemplateFiles {
                ram_bytes,
                state: StateFile {
                    bytes: state.len() as u64,
                    sha256: Digest::of(&state).hex(),
                },
                disk_bytes: layer_bytes,
            },
            created: jiff::Timestamp::now(),
            build_seconds: self.begun.elapsed().as_secs_f64(),
        };
        files::write_private(&self.directory.join(METADATA), &json(&metadata))?;
        files::synchronize_directory(&self.directory)?;
        let displaced = self.rename()?;
        self.is_committed = true;
        let directory = self.store.directory(&self.key);
        // It is stored: what stays is a few bytes, or swept by the next who looks.
        for result in [
            files::remove_file_if_present(&directory.join(BUILD_LOCK)),
            files::remove_file_if_present(&self.log()),
            displaced.map_or(Ok(()), |path| files::remove_tree_if_present(&path)),
        ] {
            if let Err(error) = result {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "something of a template's build stays"
                );
            }
        }
        Ok(Template {
            key: self.key,
            metadata,
            directory,
        })
    }

    /// Gives the directory its final name; returns what bore it, set aside.
    fn rename(&self) -> Result<Option<PathBuf>, TemplateError> {
        let directory = self.store.directory(&self.key);
        let lock = self.store.lock()?;
        let rename = || fs::rename(&self.directory, &directory);
        let mut displaced = None;
        let renamed = match rename() {
            // Of another version, or put there by hand.
            Err(error) if is_occupied(&error) => {
                displaced = self.store.set_aside(&lock, &directory)?;
                rename()
            }
            renamed => renamed,
        };
        renamed.map_err(FileError::new("store", &*directory))?;
        files::synchronize_directory(self.store.root())?;
        Ok(displaced)
    }

    /// Removes what is no part of a template.
    fn remove_scratch(&self) -> Result<(), FileError> {
        for name in files::names_in(&self.directory)? {
            if [RAM, STATE, DISK, BUILD_LOCK].contains(&name.as_str()) {
                continue;
            }
            let path = self.directory.join(name);
            if path.is_dir() && !path.is_symlink() {
                files::remove_tree_if_present(&path)?;
            } else {
                files::remove_file_if_present(&path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if self.is_committed {
            return;
        }
        let remove = || -> Result<(), TemplateError> {
            let lock = self.store.lock()?;
            let removed = self.store.set_aside(&lock, &self.directory)?;
            drop(lock);
            remove_all(removed.as_slice())
        };
        if let Err(error) = remove() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a template that was not finished is left to the next build"
            );
        }
    }
}

/// Writes a file to the disk itself, with mode 0600; returns its length in bytes.
fn synchronize(path: &Path) -> Result<u64, FileError> {
    let synchronize = || -> io::Result<u64> {
        let file = File::open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    };
    synchronize().map_err(FileError::new("store", path))
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("a tree of strings and numbers serializes to JSON")
}

#[cfg(test)]
mod tests;
