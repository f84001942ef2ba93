//! Builds a base image from a recipe, as root or as a user.
//!
//! mmdebstrap installs Debian into a directory. mkfs.ext4 writes this directory to a disk without
//! mounting it. debugfs reads the kernel and its modules from the disk, so the stored files match
//! the disk. Without root, mmdebstrap and mkfs.ext4 run in a user namespace, so owners and setuid
//! bits are right. The build works in its own directories (`workspace`) and moves the finished
//! files to the store at its end. So an interrupted build leaves no incomplete image in the store.

mod boot_files;
mod bootstrap;
mod command;
mod disk;
mod error;
mod mirror;
mod packages;
mod progress;
mod space;
mod tools;
mod workspace;

use std::fs::{self, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sandbox_host::files::{FileError, remove_file_if_present};

use self::bootstrap::BootstrapPaths;
use self::command::Runner;
use self::disk::DiskReader;
use self::mirror::Mirrors;
use self::progress::BootstrapFollower;
use self::tools::Tools;
use self::workspace::Workspace;
use super::files;
use super::metadata::{
    CONTRACT_VERSION, DiskFile, ImageContent, ImageFiles, KernelFile, Metadata, StoredFile,
};
use super::recipe::Recipe;
use super::store::{Image, ImageStore, StagedFiles};

pub use self::command::CancelFlag;
pub use self::error::BuildError;
pub use self::progress::BuildProgress;

/// Debian's name of the only supported architecture.
const ARCHITECTURE: &str = "amd64";
/// The root device of a recipe whose command line names no other.
const ROOT_DEVICE: &str = "/dev/vda";
/// The interval at which a waiting build tries to take the lock of the other build.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// Options of a build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// The URL of a Debian mirror in place of the mirror of the host's apt.
    pub mirror: Option<String>,
    /// The parent of the new root file system in place of `/var/tmp`. It needs about 2 GiB of free
    /// space. Without root, all users must have search permission for it.
    pub scratch_parent: Option<PathBuf>,
}

/// Removes the staging and scratch directories of interrupted builds.
///
/// # Errors
///
/// The store cannot be read, or a program of a build is missing: files of subordinate ids are
/// removed in a user namespace.
pub fn collect_garbage(store: &ImageStore) -> Result<(), BuildError> {
    Workspace::collect_garbage(store, &Tools::find()?)
}

/// Builds `recipe` and stores it under the recipe's name.
///
/// If another process builds the same recipe at the same time, this function waits for it and
/// returns its image. The programs of a build end with this process, even if it is killed.
///
/// # Errors
///
/// See [`BuildError`]. Nothing of the build remains except its log in the store.
pub fn build(
    recipe: &Recipe,
    options: &BuildOptions,
    store: &ImageStore,
    progress: &mut dyn FnMut(BuildProgress),
    cancel: &CancelFlag,
) -> Result<Image, BuildError> {
    let tools = Tools::find()?;
    let mirrors = Mirrors::choose(options.mirror.as_deref())?;
    let started = jiff::Timestamp::now();
    let (lock, lock_path) = store.build_lock(&recipe.name)?;
    let mut waited = false;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(FileError::new("lock", lock_path)(error).into());
            }
        }
        if cancel.is_cancelled() {
            return Err(BuildError::Cancelled {
                name: recipe.name.clone(),
            });
        }
        if !waited {
            progress(BuildProgress::WaitingForOtherBuild);
            waited = true;
        }
        thread::sleep(LOCK_INTERVAL);
    }
    if waited && let Some(image) = store.open(&recipe.name)? {
        let content = &image.metadata.content;
        if content.recipe_hash == recipe.hash() && content.created >= started {
            return Ok(image);
        }
    }
    Workspace::collect_garbage(store, &tools)?;
    store.collect_garbage()?;
    let scratch_parent = options.scratch_parent.as_deref();
    let workspace = Workspace::create(store, &tools, scratch_parent)?;
    space::check(&workspace)?;
    let log = store.build_log(&recipe.name)?;
    let mut job = Job {
        recipe,
        tools: &tools,
        mirrors: &mirrors,
        store,
        workspace: &workspace,
        runner: Runner::new(&recipe.name, cancel, log)?,
        progress,
    };
    job.run().map_err(|error| space::explain(error, &workspace))
}

/// A build with everything that it needs.
struct Job<'a> {
    recipe: &'a Recipe,
    tools: &'a Tools,
    mirrors: &'a Mirrors,
    store: &'a ImageStore,
    workspace: &'a Workspace<'a>,
    runner: Runner<'a>,
    progress: &'a mut dyn FnMut(BuildProgress),
}

impl Job<'_> {
    fn run(&mut self) -> Result<Image, BuildError> {
        self.install()?;
        (self.progress)(BuildProgress::WritingDisk);
        let (raw, virtual_size_bytes) = disk::write(&mut self.runner, self.tools, self.workspace)?;
        self.workspace.remove_root();

        (self.progress)(BuildProgress::ReadingKernel);
        let reader = DiskReader {
            name: &self.recipe.name,
            tools: self.tools,
            raw: &raw,
            directory: self.workspace.staging(),
        };
        let boot = boot_files::read(&mut self.runner, &reader, &self.recipe.modules)?;
        let status = reader.read(&mut self.runner, "/var/lib/dpkg/status")?;
        let packages = packages::installed(&String::from_utf8_lossy(&status));

        (self.progress)(BuildProgress::ConvertingDisk);
        let staged = StagedFiles {
            disk: self.workspace.staging().join("disk.qcow2"),
            kernel: self.workspace.staging().join("kernel"),
            modules: self.workspace.staging().join("modules.cpio"),
        };
        disk::convert(&mut self.runner, self.tools, &raw, &staged.disk)?;
        remove_file_if_present(&raw)?;
        write(&staged.kernel, &boot.kernel)?;
        write(&staged.modules, &boot.modules)?;

        (self.progress)(BuildProgress::Storing);
        let command_line = self.recipe.command_line.clone();
        let content = ImageContent {
            recipe_hash: self.recipe.hash(),
            contract_version: CONTRACT_VERSION,
            architecture: ARCHITECTURE.to_owned(),
            created: jiff::Timestamp::now(),
            root_device: root_device(&command_line).to_owned(),
            command_line,
            suite: self.recipe.suite.clone(),
            mirror: self.mirrors.main.clone(),
            kernel_release: boot.kernel_release,
            files: ImageFiles {
                disk: DiskFile {
                    file: stored_file(&staged.disk)?,
                    virtual_size_bytes,
                },
                kernel: KernelFile {
                    file: stored_file(&staged.kernel)?,
                    format: boot.kernel_format,
                },
                modules: stored_file(&staged.modules)?,
            },
            packages,
        };
        self.runner.check_cancelled()?;
        let metadata = Metadata::new(self.recipe.name.clone(), content);
        Ok(self.store.commit(&metadata, &staged)?)
    }

    /// Installs the recipe into the new root.
    fn install(&mut self) -> Result<(), BuildError> {
        let hook = self.workspace.write_payload()?;
        let command = bootstrap::command(
            self.recipe,
            self.tools,
            self.mirrors,
            &mirror::host_apt_options(),
            &BootstrapPaths {
                root: &self.workspace.root(),
                hook: &hook,
                temporary: self.workspace.scratch(),
            },
        );
        let mut follower = BootstrapFollower::default();
        let progress = &mut self.progress;
        self.runner.run("mmdebstrap", command, &mut |line| {
            if let Some(step) = follower.line(line) {
                progress(step);
            }
        })
    }
}

/// Returns the root device that the kernel command line names, or the default.
fn root_device(command_line: &str) -> &str {
    command_line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("root="))
        .unwrap_or(ROOT_DEVICE)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fs::write(path, bytes).map_err(FileError::new("write", path))
}

fn stored_file(path: &Path) -> Result<StoredFile, FileError> {
    let (digest, size_bytes) = files::hash(path)?;
    Ok(StoredFile { digest, size_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_device_without_root_option_is_default() {
        assert_eq!(root_device("quiet root=/dev/vdb1 ro"), "/dev/vdb1");
        assert_eq!(root_device("quiet noroot=/dev/vdc"), "/dev/vda");
    }
}
