//! The disk of the bed: QEMU, the image of the tests, and the program under test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::PROGRAM;
use crate::harness::{image_store, packages};

/// Packages of Debian that the bed needs besides those of the image.
const PACKAGES: &str = "acl,qemu-system-x86,qemu-utils,socat";

/// The size of the disk, sparse, in MiB: the packages, the image, and a template of 1 GiB.
const SIZE_MIB: u64 = 8192;

/// Returns a new disk in `directory`, an ext4 file system with:
///
/// - `packages`: the files of [`PACKAGES`] and of their dependencies
/// - `home/kvm-cache`: the image store
/// - `sandbox`: the program under test
pub(super) fn create(directory: &Path) -> PathBuf {
    let disk = directory.join("bed.img");
    run(Command::new("cp")
        .args(["--sparse=always", "--reflink=auto"])
        .args([&base(), &disk]));
    // Debug information would double the size of the disk.
    let program = directory.join("sandbox.stripped");
    run(Command::new("strip")
        .arg("-o")
        .args([&program, Path::new(PROGRAM)]));
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

/// Returns the disk without the program, made at the first use and kept as long as the image.
fn base() -> PathBuf {
    let parent = image_store().parent().unwrap();
    let digest = Sha256::digest(format!("{PACKAGES} {SIZE_MIB}"));
    let hex: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let disk = parent.join(format!("kvm-bed-{hex}.img"));
    // Another test run may be making it.
    let lock = File::create(parent.join("kvm-bed.lock")).unwrap();
    lock.lock().unwrap();
    if !disk.exists() {
        eprintln!("making the disk of the KVM tests in {}", disk.display());
        let scratch = tempfile::tempdir_in(parent).unwrap();
        let content = scratch.path().join("content");
        let (extracted, cache) = (content.join("packages"), content.join("home/kvm-cache"));
        for directory in [&extracted, &cache] {
            fs::create_dir_all(directory).unwrap();
        }
        let archive = scratch.path().join("packages.tar");
        packages::fetch(PACKAGES, &[], &archive);
        run(Command::new("tar")
            .args(["--extract", "--no-same-owner"])
            .arg(format!("--file={}", archive.display()))
            .arg(format!("--directory={}", extracted.display()))
            .arg("./usr"));
        for part in ["blobs", "images"] {
            run(Command::new("cp")
                .arg("--archive")
                .args([&image_store().join(part), &cache.join(part)]));
        }
        let partial = scratch.path().join("disk");
        File::create(&partial)
            .unwrap()
            .set_len(SIZE_MIB << 20)
            .unwrap();
        run(Command::new("mke2fs")
            .args([
                "-q",
                "-t",
                "ext4",
                "-m",
                "0",
                "-E",
                "lazy_itable_init=1,root_owner=0:0",
                "-d",
            ])
            .args([&content, &partial]));
        fs::rename(partial, &disk).unwrap();
    }
    disk
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}
