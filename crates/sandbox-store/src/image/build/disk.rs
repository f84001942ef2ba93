//! The root disk: written from a directory, read with debugfs, converted to qcow2.
//! No loop device and no mount is needed.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};

use super::super::error::ImageError;
use super::bootstrap;
use super::command::Runner;
use super::error::BuildError;
use super::tools::Tools;
use super::workspace::Workspace;
use sandbox_spec::ImageReference;

const MEBIBYTE: u64 = 1 << 20;
/// What is free on the disk of an image before it grows to the sandbox's size, in bytes.
const SLACK_BYTES: u64 = 1024 * MEBIBYTE;
/// The disk's size is a multiple of this, in bytes.
const GRANULARITY_BYTES: u64 = 256 * MEBIBYTE;

/// The descriptor under which mkfs.ext4 finds the disk.
const DISK_DESCRIPTOR: i32 = 3;

/// Writes the new root to a sparse raw file that holds one ext4 file system; returns the file
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
    // Root of the user namespace cannot enter the private staging directory; it gets an open
    // descriptor, and reopening that needs the file's own permission only.
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
        .map_err(ImageError::io("create", &raw))?;
    let mut mkfs = bootstrap::as_owner(tools, &tools.mkfs, workspace.scratch());
    mkfs.args(["-q", "-F", "-b", "4096", "-L", "root", "-m", "1"])
        // A small journal is enough for one user and is not copied around.
        .args(["-J", "size=16"])
        // Otherwise the guest's kernel initializes the tables in the background at each start.
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

/// Converts the raw disk to qcow2. The clusters are not compressed: they are read at each start.
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
    /// The image it belongs to, for errors.
    pub(super) name: &'a ImageReference,
    pub(super) tools: &'a Tools,
    /// The raw file.
    pub(super) raw: &'a Path,
    /// A directory for the files that are read.
    pub(super) directory: &'a Path,
}

impl DiskReader<'_> {
    /// The names in the directory `path`.
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

    /// The content of the file `path`.
    pub(super) fn read(&self, runner: &mut Runner<'_>, path: &str) -> Result<Vec<u8>, BuildError> {
        const COPY: &str = "dumped";
        let copy = self.directory.join(COPY);
        super::super::files::remove_file(&copy)?;
        // debugfs succeeds when the file is missing, and then writes none.
        runner.run(
            "debugfs",
            self.debugfs(&format!("dump {path} {COPY}")),
            &mut |_| {},
        )?;
        match fs::read(&copy) {
            Ok(contents) => {
                super::super::files::remove_file(&copy)?;
                Ok(contents)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(BuildError::MissingFile {
                    name: self.name.clone(),
                    path: path.to_owned(),
                })
            }
            Err(error) => Err(ImageError::io("read", copy)(error).into()),
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
            // Long listings would wait for somebody to turn the page.
            .env("DEBUGFS_PAGER", "cat");
        command
    }
}

/// The name in a line of debugfs' `ls -p`: `/INODE/MODE/UID/GID/NAME/SIZE/`.
fn listed_name(line: &str) -> Option<&str> {
    let mut fields = line.strip_prefix('/')?.split('/');
    fields
        .nth(4)
        .filter(|name| !name.is_empty() && *name != "." && *name != "..")
}

/// The size of a disk for `used_bytes` of files, in bytes: room for the file system's own
/// tables, and slack.
fn disk_size(used_bytes: u64) -> u64 {
    (used_bytes + used_bytes / 16 + SLACK_BYTES).next_multiple_of(GRANULARITY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_has_slack_and_a_round_size() {
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
    fn listing_of_debugfs_is_read() {
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
