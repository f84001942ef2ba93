//! A build in progress: its own directory, locked by the process that fills it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sandbox_host::files::{self, FileError};
use sandbox_host::lock::{DirectoryLock, LockAttempt};
use sandbox_spec::{Digest, TemplateKey};

use super::directory::{DISK, RAM, STATE, TemplateDirectory};
use super::error::{TemplateError, TemplateFault};
use super::metadata::{Metadata, StateFile, TemplateFiles};
use super::shape::{METADATA_VERSION, Shape};
use super::store::{
    BUILD_LOCK, BUILD_SHAPE, METADATA, Template, TemplateStore, is_occupied, remove_all,
};

/// The free space that a build leaves on the disk, in bytes: sandboxes write meanwhile.
const RESERVE_BYTES: u64 = 1 << 30;

/// The answer to an attempt to begin a build.
#[derive(Debug)]
pub enum Begin {
    /// The caller builds the template.
    Building(Build),
    /// Another process is building it.
    Busy,
    /// It exists already.
    Exists(Template),
}

/// A build in progress.
///
/// Dropping it without [`Build::commit`] removes it. If the process dies, its lock becomes free,
/// and the next build or garbage collection removes the directory.
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
    /// Begins to build the template for `shape`, unless it exists or another process builds it.
    ///
    /// Removes a broken template for `shape`, the directories of interrupted builds, and expired
    /// logs.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub fn begin(&self, shape: Shape) -> Result<Begin, TemplateError> {
        let key = shape.key();
        let lock = self.create()?;
        let mut removed = self.set_orphans_aside(&lock)?;
        match self.load_with_state(&key)? {
            Some(Ok(template)) => return Ok(Begin::Exists(template)),
            // The version that wrote it may still use it until this build is stored.
            None | Some(Err(TemplateFault::OtherVersion(_))) => {}
            Some(Err(fault)) => {
                tracing::warn!(%key, %fault, "removing a broken template");
                removed.extend(self.set_aside(&lock, &self.directory(&key))?);
            }
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

    /// Checks that a template with `memory_bytes` of memory leaves 1 GiB of the disk free. The file
    /// of its memory usually takes a fraction of that size.
    ///
    /// # Errors
    ///
    /// [`TemplateError::LittleSpace`].
    pub fn check_space(&self, memory_bytes: u64) -> Result<(), TemplateError> {
        // A store that does not exist yet will be on the file system of its nearest parent.
        let Some(existing) = self.root().ancestors().find(|path| path.exists()) else {
            return Ok(());
        };
        self.check_free_space(memory_bytes, files::free_bytes(existing)?)
    }

    fn check_free_space(&self, memory_bytes: u64, free_bytes: u64) -> Result<(), TemplateError> {
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
    /// Returns the template's name.
    pub fn key(&self) -> TemplateKey {
        self.key
    }

    /// Returns the template's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the private directory of the build. [`Build::commit`] removes all other files than
    /// the template's. Its path is too long for sockets (unix(7)).
    pub fn directory(&self) -> &TemplateDirectory {
        &self.directory
    }

    /// Returns the log of the build, which is empty at first and stays when the build fails.
    pub fn log(&self) -> PathBuf {
        self.store.log(&self.key)
    }

    /// Stores the template: flushes its files to the disk and gives the directory its final name.
    /// `disk_bytes` is the size of the guest's disk as the guest sees it.
    ///
    /// # Errors
    ///
    /// A file is missing or cannot be written. Then nothing is stored.
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
        // The template is stored. A file that a failure leaves is small, or the garbage collection
        // removes it.
        for result in [
            files::remove_file_if_present(&directory.join(BUILD_LOCK)),
            files::remove_file_if_present(&self.log()),
            displaced.map_or(Ok(()), |path| files::remove_tree_if_present(&path)),
        ] {
            if let Err(error) = result {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not remove a scratch file of a template's build"
                );
            }
        }
        Ok(Template {
            key: self.key,
            metadata,
            directory,
        })
    }

    /// Gives the directory its final name. Returns the set-aside directory that had this name.
    fn rename(&self) -> Result<Option<PathBuf>, TemplateError> {
        let directory = self.store.directory(&self.key);
        let lock = self.store.lock()?;
        let rename = || fs::rename(&self.directory, &directory);
        let mut displaced = None;
        let renamed = match rename() {
            // A template of another version, or a directory that a user made.
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

    /// Removes the files that are not part of a template.
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
                "could not remove an unfinished template; the next build removes it"
            );
        }
    }
}

/// Sets a file's mode to 0600 and flushes the file to the disk. Returns its length in bytes.
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
