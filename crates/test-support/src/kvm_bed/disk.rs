//! The disk of the bed: QEMU, an image, and the program under test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::packages::{PackageSource, fetch_packages};

/// Packages of Debian that the bed needs besides those of the image.
const PACKAGES: &str = "acl,qemu-system-x86,qemu-utils,socat";

/// The size of the disk, sparse, in MiB: the packages, the image, and a template of 1 GiB.
const SIZE_MIB: u64 = 8192;

/// The content of a bed's disk.
#[derive(Debug, Clone, Copy)]
pub struct BedDisk<'a> {
    /// The program under test.
    pub program: &'a Path,
    /// The image store to copy.
    pub store: &'a Path,
    /// The name of an image in the store. Its mirror has the packages of the bed.
    pub image: &'a str,
    /// A directory that keeps the disk without the program, for the next bed.
    pub cache: &'a Path,
}

impl BedDisk<'_> {
    /// Creates the disk in `directory`, an ext4 file system with:
    ///
    /// - `packages`: the files of [`PACKAGES`] and of their dependencies
    /// - `home/kvm-cache`: the image store
    /// - `sandbox`: the program under test
    pub(super) fn create(&self, directory: &Path) -> PathBuf {
        let disk = directory.join("bed.img");
        run(Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([&self.base(), &disk]));
        // Debug information would double the size of the disk.
        let program = directory.join("sandbox.stripped");
        run(Command::new("strip")
            .arg("-o")
            .args([&program, self.program]));
        let commands = directory.join("debugfs.commands");
        let text = format!(
            "write {} sandbox\nset_inode_field sandbox mode 0100755\n",
            program.display()
        );
        fs::write(&commands, text).unwrap();
        run(Command::new("debugfs")
            .args(["-w", "-f"])
            .args([&commands, &disk]));
        disk
    }

    /// Returns the disk without the program, made at the first use.
    fn base(&self) -> PathBuf {
        let metadata = self.store.join("images").join(self.image);
        let metadata = fs::read(metadata.join("metadata.json")).unwrap();
        let mut digest = Sha256::new();
        digest.update(format!("{PACKAGES} {SIZE_MIB} "));
        digest.update(&metadata);
        let hex: String = digest.finalize()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let disk = self.cache.join(format!("kvm-bed-{hex}.img"));
        // Another test run may be making it.
        let lock = File::create(self.cache.join("kvm-bed.lock")).unwrap();
        lock.lock().unwrap();
        if !disk.exists() {
            eprintln!("making the disk of a host with KVM, {}", disk.display());
            self.make_base(&serde_json::from_slice(&metadata).unwrap(), &disk);
        }
        disk
    }

    fn make_base(&self, metadata: &Value, disk: &Path) {
        let scratch = tempfile::tempdir_in(self.cache).unwrap();
        let content = scratch.path().join("content");
        let (extracted, store) = (content.join("packages"), content.join("home/kvm-cache"));
        for directory in [&extracted, &store] {
            fs::create_dir_all(directory).unwrap();
        }
        let archive = scratch.path().join("packages.tar");
        fetch_packages(&PackageSource::of_image(metadata), PACKAGES, &[], &archive);
        run(Command::new("tar")
            .args(["--extract", "--no-same-owner"])
            .arg(format!("--file={}", archive.display()))
            .arg(format!("--directory={}", extracted.display()))
            .arg("./usr"));
        for part in ["blobs", "images"] {
            run(Command::new("cp")
                .arg("--archive")
                .args([&self.store.join(part), &store.join(part)]));
        }
        let partial = scratch.path().join("disk");
        let file = File::create(&partial).unwrap();
        file.set_len(SIZE_MIB << 20).unwrap();
        run(Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-m", "0"])
            .args(["-E", "lazy_itable_init=1,root_owner=0:0"])
            .arg("-d")
            .args([&content, &partial]));
        fs::rename(partial, disk).unwrap();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}
