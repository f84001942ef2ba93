//! The two directories of a build, which exist as long as the build runs.
//!
//! The *staging* directory lies in the store, is private and contains the files of the new image.
//! The *scratch* directory contains the new root file system, whose files belong to subordinate
//! ids. These ids cannot enter a private directory, so it lies in `/var/tmp` and all users can
//! enter it. The staging directory contains its path. So a garbage collection that finds a staging
//! directory with a free lock can remove both.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Uid;
use sandbox_host::files::{FileError, create_private_directory, names_in};

use super::super::store::ImageStore;
use super::super::{files, recipe};
use super::bootstrap;
use super::error::BuildError;
use super::tools::Tools;

/// The default parent of scratch directories. It is on a disk, unlike `/tmp`.
const SCRATCH_PARENT: &str = "/var/tmp";
/// The prefix of the names of scratch directories. Directories with other names are never removed.
const SCRATCH_PREFIX: &str = "sandbox-build-";

/// The customize hook.
const ASSEMBLE: &[u8] = include_bytes!("assemble.sh");

/// The directories of one build. Dropping it removes them.
pub(super) struct Workspace<'a> {
    tools: &'a Tools,
    staging: PathBuf,
    scratch: PathBuf,
    _lock: File,
}

impl<'a> Workspace<'a> {
    /// Creates both directories, the scratch directory in `parent` or `/var/tmp`.
    pub(super) fn create(
        store: &ImageStore,
        tools: &'a Tools,
        parent: Option<&Path>,
    ) -> Result<Self, BuildError> {
        let all = store.staging();
        create_private_directory(&all)?;
        // A garbage collection must not see the new directory before it is locked.
        let _store_lock = store.lock()?;
        let staging = tempfile::Builder::new()
            .prefix("build-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&all)
            .map_err(FileError::new("create directory in", &all))?
            .keep();
        let lock_path = staging.join("lock");
        let lock = files::open_private(&lock_path)?;
        lock.lock().map_err(FileError::new("lock", &lock_path))?;
        let scratch = scratch_path(parent.unwrap_or(Path::new(SCRATCH_PARENT)), &staging);
        // The path is written first, so that no scratch directory exists without a record.
        files::replace(
            &staging.join("scratch"),
            scratch.as_os_str().as_encoded_bytes(),
        )?;
        let workspace = Self {
            tools,
            staging,
            scratch,
            _lock: lock,
        };
        create_open_directory(&workspace.scratch, 0o711)?;
        create_open_directory(&workspace.root(), 0o755)?;
        Ok(workspace)
    }

    /// Removes the directories of interrupted builds. Directories that cannot be removed stay for
    /// the next call.
    pub(super) fn collect_garbage(store: &ImageStore, tools: &Tools) -> Result<(), BuildError> {
        let all = store.staging();
        let _store_lock = store.lock()?;
        for name in names_in(&all)? {
            let staging = all.join(name);
            let lock = files::open_private(&staging.join("lock"))?;
            if lock.try_lock().is_err() {
                continue;
            }
            if let Ok(scratch) = fs::read_to_string(staging.join("scratch")) {
                remove(tools, &staging, Path::new(&scratch));
            } else {
                remove(
                    tools,
                    &staging,
                    &scratch_path(Path::new(SCRATCH_PARENT), &staging),
                );
            }
        }
        Ok(())
    }

    /// Returns the private directory for the files of the new image.
    pub(super) fn staging(&self) -> &Path {
        &self.staging
    }

    /// Returns the directory that subordinate ids can reach.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Returns the directory of the new root file system.
    pub(super) fn root(&self) -> PathBuf {
        self.scratch.join("root")
    }

    /// Writes the files for the customize hook. Returns the path of the hook.
    pub(super) fn write_payload(&self) -> Result<PathBuf, FileError> {
        let payload = self.scratch.join("payload");
        let tree = payload.join("root");
        create_open_directory(&payload, 0o755)?;
        create_open_directory(&tree, 0o755)?;
        for placed in recipe::placed_files() {
            let relative = Path::new(placed.parent).join(placed.relative);
            let mut directory = tree.clone();
            for component in relative.parent().into_iter().flat_map(Path::components) {
                directory.push(component);
                if !directory.is_dir() {
                    create_open_directory(&directory, 0o755)?;
                }
            }
            let mode = if placed.file.executable { 0o755 } else { 0o644 };
            write_open_file(&tree.join(relative), placed.file.contents, mode)?;
        }
        if let Some(script) = recipe::customize_script() {
            write_open_file(&payload.join("customize"), script, 0o644)?;
        }
        let hook = payload.join("assemble");
        write_open_file(&hook, ASSEMBLE, 0o755)?;
        Ok(hook)
    }

    /// Removes the new root file system, which frees space after it was written to the disk.
    pub(super) fn remove_root(&self) {
        remove_scratch(self.tools, &self.scratch);
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        remove(self.tools, &self.staging, &self.scratch);
    }
}

fn scratch_path(parent: &Path, staging: &Path) -> PathBuf {
    let name = staging.file_name().unwrap_or_default().to_string_lossy();
    let unique = name.trim_start_matches("build-");
    parent.join(format!("{SCRATCH_PREFIX}{unique}"))
}

/// Removes a scratch directory, then the staging directory that names it.
fn remove(tools: &Tools, staging: &Path, scratch: &Path) {
    if !remove_scratch(tools, scratch) {
        tracing::warn!(
            "could not remove `{}`; the next build tries again",
            scratch.display()
        );
        return;
    }
    if let Err(error) = fs::remove_dir_all(staging) {
        tracing::warn!("could not remove `{}`: {error}", staging.display());
    }
}

/// Removes the scratch directory. Returns whether it no longer exists.
fn remove_scratch(tools: &Tools, scratch: &Path) -> bool {
    let ours = |status: &fs::Metadata| status.is_dir() && status.uid() == Uid::effective().as_raw();
    let named = scratch.file_name().is_some_and(|name| {
        name.as_encoded_bytes()
            .starts_with(SCRATCH_PREFIX.as_bytes())
    });
    match fs::symlink_metadata(scratch) {
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
        // Another user has created a directory with this name, so ours no longer exists.
        Ok(status) if !named || !ours(&status) => return true,
        Ok(_) => {}
    }
    if fs::remove_dir_all(scratch).is_ok() {
        return true;
    }
    // Root of the user namespace removes the files of subordinate ids, the user removes the rest.
    let root = scratch.join("root");
    let mut command = bootstrap::as_owner(tools, Path::new("rm"), Path::new("/"));
    command
        .args(["-rf", "--one-file-system", "--"])
        .arg(&root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(error) = run_quietly(&mut command) {
        tracing::warn!("could not empty `{}`: {error}", root.display());
    }
    fs::remove_dir_all(scratch).is_ok()
}

/// Runs a command and ignores its status: it fails because it cannot remove the root itself.
fn run_quietly(command: &mut Command) -> io::Result<()> {
    command.status().map(drop)
}

fn create_open_directory(path: &Path, mode: u32) -> Result<(), FileError> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        // The umask has reduced the mode.
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(FileError::new("create directory", path))
}

fn write_open_file(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    use std::io::Write as _;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(contents)
        })
        .map_err(FileError::new("write", path))
}
