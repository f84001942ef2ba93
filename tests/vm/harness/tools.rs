//! Programs that [`IMAGE`](super::image::IMAGE) lacks, for the guests of tests. They
//! come from Debian, so that tests run the programs that users run.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbox_test_support::{PackageSource, fetch_packages};
use sha2::{Digest, Sha256, Sha512};

use super::{Host, image};

/// Packages of Debian. npm is not one of them: Debian splits it into 300 packages, which
/// take minutes to unpack.
const PACKAGES: &str = "curl,git,nodejs,python3-pip";

/// npm as its authors publish it.
const NPM: &str = "https://registry.npmjs.org/npm/-/npm-10.9.2.tgz";
const NPM_SHA512: &str =
    "iriPEPIkoMYUy3F6f3wwSZAU93E0Eg6cHwIR6jzzOXWSy+SD/rOODEs74cVONHKSx2obXtuUoyidVEhISrisgQ==";

/// Files that no test needs: documentation, and the Perl modules with which git sends
/// mail.
const EXCLUDED: [&str; 6] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/zoneinfo/*",
    "/usr/share/perl/*",
    "/usr/lib/*/perl/*",
];

/// The guest's mount point of the directory.
const MOUNT_POINT: &str = "/mnt/tools";

/// The directory with [`FILE_SYSTEM`].
pub(crate) struct Tools(PathBuf);

/// The name of an ext4 file system with the programs in `usr`.
const FILE_SYSTEM: &str = "tools.ext4";

/// Its size in MiB, sparse.
const SIZE_MIB: u64 = 1024;

impl Tools {
    /// Returns the programs, fetched at the first use and kept as long as the image.
    pub(crate) fn get() -> Self {
        let parent = image::store().parent().unwrap();
        let wanted = format!("{PACKAGES}\n{NPM_SHA512}\n{EXCLUDED:?}\n{FILE_SYSTEM}");
        let digest = Sha256::digest(wanted);
        let hex: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let directory = parent.join(format!("tools-{hex}"));
        // Another test run may be making them.
        let lock = File::create(parent.join("tools.lock")).unwrap();
        lock.lock().unwrap();
        if !directory.exists() {
            eprintln!("fetching programs for guests to {}", directory.display());
            let partial = parent.join("tools.partial");
            if partial.exists() {
                fs::remove_dir_all(&partial).unwrap();
            }
            fs::create_dir(&partial).unwrap();
            make_file_system(&partial);
            fs::rename(partial, &directory).unwrap();
        }
        Self(directory)
    }

    /// Returns the value of `--share` that [`Self::install`] needs.
    pub(crate) fn share(&self) -> String {
        format!("{}:{MOUNT_POINT}:ro", self.0.display())
    }

    /// Adds the programs to the guest of this host, below the files of the image. `/usr` is
    /// read-only from then on. Unpacking them in an emulation takes a minute.
    #[track_caller]
    pub(crate) fn install(&self, host: &Host) {
        host.guest(&format!(
            "sudo mount -o ro,loop {MOUNT_POINT}/{FILE_SYSTEM} /media\n\
             sudo mount -t overlay -o lowerdir=/usr:/media/usr overlay /usr"
        ));
    }
}

/// Makes [`FILE_SYSTEM`] in `directory`.
fn make_file_system(directory: &Path) {
    let tree = directory.join("tree");
    let modules = tree.join("usr/local/lib/node_modules/npm");
    let programs = tree.join("usr/local/bin");
    for path in [&modules, &programs] {
        fs::create_dir_all(path).unwrap();
    }
    let archive = directory.join("archive");
    let extract = |arguments: &[&str], to: &Path| {
        run(Command::new("tar")
            .args(["--extract", "--no-same-owner", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(to)
            .args(arguments));
    };
    let source = PackageSource::of_image(&image::metadata());
    fetch_packages(&source, PACKAGES, &EXCLUDED, &archive);
    extract(&["./usr"], &tree);
    fetch_npm(&archive);
    extract(&["--gzip", "--strip-components=1"], &modules);
    symlink(
        "../lib/node_modules/npm/bin/npm-cli.js",
        programs.join("npm"),
    )
    .unwrap();

    let file = directory.join(FILE_SYSTEM);
    File::create(&file)
        .and_then(|created| created.set_len(SIZE_MIB << 20))
        .unwrap();
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal"])
        .args(["-E", "root_owner=0:0", "-d"])
        .args([&tree, &file]));
    fs::remove_dir_all(tree).unwrap();
    fs::remove_file(archive).unwrap();
}

fn fetch_npm(archive: &Path) {
    run(Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location"])
        .arg("--output")
        .arg(archive)
        .arg(NPM));
    let digest = Sha512::digest(fs::read(archive).unwrap());
    assert_eq!(STANDARD.encode(digest), NPM_SHA512, "{NPM}");
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
