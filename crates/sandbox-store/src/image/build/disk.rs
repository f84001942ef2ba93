//! The root disk: mkfs.ext4 writes it from a directory, debugfs reads it, qemu-img converts it to
//! qcow2. No step needs a loop device or a mount.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use sandbox_host::files::{FileError, remove_file_if_present};
use sandbox_spec::ImageReference;

use super::bootstrap;
use super::command::Runner;
use super::error::BuildError;
use super::tools::Tools;
use super::workspace::Workspace;

const MEBIBYTE: u64 = 1 << 20;
/// The free space on an image's disk before it grows to the sandbox's size, in bytes.
const SLACK_BYTES: u64 = 1024 * MEBIBYTE;
/// The disk's size is a multiple of this, in bytes.
const GRANULARITY_BYTES: u64 = 256 * MEBIBYTE;

/// The descriptor of the disk in mkfs.ext4.
const DISK_DESCRIPTOR: i32 = 3;

/// Writes the new root to a sparse raw file that contains one ext4 file system. Returns the file
/// and its size in bytes.
pub(super) fn write(
    runner: &mut Runner<'_>,
    tools: &Tools,
    workspace: &Workspace<'_>,
) -> Result<(PathBuf, u64), BuildError> {
    let root = workspace.root();
    let mut used = bootstrap::as_owner(tools, Path::new("du"), workspace.scratch());
    used.args(["-skx", "--"]).arg(&root);
    let mut used_bytes = 0;
    runner.run("du", used, &mut |line| {
        let kibibytes = line.split('\t').next().and_then(|word| word.parse().ok());
        used_bytes = kibibytes.map_or(used_bytes, |kibibytes: u64| kibibytes << 10);
    })?;
    let size_bytes = disk_size(used_bytes);

    let raw = workspace.staging().join("disk.raw");
    // Root of the user namespace cannot enter the private staging directory. It gets an open
    // descriptor, and reopening a descriptor needs only the permission of the file.
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&raw)
        .and_then(|file| {
            file.set_permissions(fs::Permissions::from_mode(0o666))?;
            Ok(file)
        })
        .map_err(FileError::new("create", &raw))?;
    let mut mkfs = bootstrap::as_owner(tools, &tools.mkfs, workspace.scratch());
    mkfs.args(["-q", "-F", "-b", "4096", "-L", "root", "-m", "1"])
        // A small journal is enough for one user and keeps the image small.
        .args(["-J", "size=16"])
        // Otherwise the guest's kernel would initialize the tables at each start.
        .args(["-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg("-d")
        .arg(&root)
        .arg(format!("/proc/self/fd/{DISK_DESCRIPTOR}"))
        .arg(format!("{}k", size_bytes >> 10));
    mkfs.fd_mappings(vec![FdMapping {
        parent_fd: file.into(),
        child_fd: DISK_DESCRIPTOR,
    }])
    .expect("one descriptor collides with nothing");
    runner.run("mkfs.ext4", mkfs, &mut |_| {})?;
    Ok((raw, size_bytes))
}

/// Converts the raw disk to qcow2, without compression, since each start reads the clusters.
pub(super) fn convert(
    runner: &mut Runner<'_>,
    tools: &Tools,
    raw: &Path,
    qcow2: &Path,
) -> Result<(), BuildError> {
    let mut command = Command::new(&tools.qemu_img);
    command
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([raw, qcow2])
        .env("LC_ALL", "C.UTF-8");
    runner.run("qemu-img", command, &mut |_| {})
}

/// Reads files out of an ext4 file system in a raw file.
pub(super) struct DiskReader<'a> {
    /// The image, for errors.
    pub(super) name: &'a ImageReference,
    pub(super) tools: &'a Tools,
    /// The raw file.
    pub(super) raw: &'a Path,
    /// A directory for copies of files.
    pub(super) directory: &'a Path,
}

impl DiskReader<'_> {
    /// Returns the names in the directory `path`.
    pub(super) fn list(
        &self,
        runner: &mut Runner<'_>,
        path: &str,
    ) -> Result<Vec<String>, BuildError> {
        let mut names = Vec::new();
        runner.run(
            "debugfs",
            self.debugfs(&format!("ls -p {path}")),
            &mut |line| {
                names.extend(listed_name(line).map(str::to_owned));
            },
        )?;
        Ok(names)
    }

    /// Returns the content of the file `path`.
    pub(super) fn read(&self, runner: &mut Runner<'_>, path: &str) -> Result<Vec<u8>, BuildError> {
        const COPY: &str = "dumped";
        let copy = self.directory.join(COPY);
        remove_file_if_present(&copy)?;
        // If the file is missing, debugfs succeeds without a copy.
        runner.run(
            "debugfs",
            self.debugfs(&format!("dump {path} {COPY}")),
            &mut |_| {},
        )?;
        match fs::read(&copy) {
            Ok(contents) => {
                remove_file_if_present(&copy)?;
                Ok(contents)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(BuildError::MissingFile {
                    name: self.name.clone(),
                    path: path.to_owned(),
                })
            }
            Err(error) => Err(FileError::new("read", copy)(error).into()),
        }
    }

    fn debugfs(&self, request: &str) -> Command {
        let mut command = Command::new(&self.tools.debugfs);
        command
            .arg("-R")
            .arg(request)
            .arg(self.raw)
            .current_dir(self.directory)
            .env("LC_ALL", "C.UTF-8")
            // A pager would wait for input.
            .env("DEBUGFS_PAGER", "cat");
        command
    }
}

/// Returns the name in a line of debugfs' `ls -p`: `/INODE/MODE/UID/GID/NAME/SIZE/`.
fn listed_name(line: &str) -> Option<&str> {
    let mut fields = line.strip_prefix('/')?.split('/');
    fields
        .nth(4)
        .filter(|name| !name.is_empty() && *name != "." && *name != "..")
}

/// Returns the size of a disk for `used_bytes` of files, in bytes. It includes the tables of the
/// file system and free space.
fn disk_size(used_bytes: u64) -> u64 {
    (used_bytes + used_bytes / 16 + SLACK_BYTES).next_multiple_of(GRANULARITY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_size_includes_slack_and_is_round() {
        for (used_mebibytes, expected_mebibytes) in
            [(0, 1024), (1, 1280), (350, 1536), (1600, 2816)]
        {
            assert_eq!(
                disk_size(used_mebibytes * MEBIBYTE),
                expected_mebibytes * MEBIBYTE,
                "{used_mebibytes}"
            );
        }
    }

    #[test]
    fn listed_name_reads_lines_of_debugfs() {
        for (line, expected) in [
            ("/13/040755/0/0/.//", None),
            ("/2/040755/0/0/..//", None),
            (
                "/17/100644/0/0/vmlinuz-6.12/12171200/",
                Some("vmlinuz-6.12"),
            ),
            ("/811/040755/0/0/kernel//", Some("kernel")),
            ("debugfs 1.47.0 (5-Feb-2023)", None),
            ("", None),
            ("/13/040755", None),
        ] {
            assert_eq!(listed_name(line), expected, "{line}");
        }
    }
}
