//! Programs that [`IMAGE`](super::image::IMAGE) lacks, for the guests of tests. They
//! come from Debian, so that tests run the programs that users run.

use std::fs::{self, File};
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

/// The guest's mount point of the archives.
const MOUNT_POINT: &str = "/mnt/tools";

/// The directory with the archives of the programs.
pub(crate) struct Tools(PathBuf);

impl Tools {
    /// Returns the archives, made at the first use and kept as long as the image.
    pub(crate) fn get() -> Self {
        let parent = image::store().parent().unwrap();
        let wanted = format!("{PACKAGES}\n{NPM_SHA512}\n{EXCLUDED:?}");
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
            let source = PackageSource::of_image(&image::metadata());
            fetch_packages(&source, PACKAGES, &EXCLUDED, &partial.join("packages.tar"));
            fetch_npm(&partial.join("npm.tgz"));
            fs::rename(partial, &directory).unwrap();
        }
        Self(directory)
    }

    /// Returns the value of `--share` that mounts the archives in a sandbox.
    pub(crate) fn share(&self) -> String {
        format!("{}:{MOUNT_POINT}:ro", self.0.display())
    }

    /// Unpacks the programs in the guest of this host. Files of the image stay
    /// unchanged.
    #[track_caller]
    pub(crate) fn install(&self, host: &Host) {
        // Each read of a share is a request to the host, so the blocks are large.
        host.guest(&format!(
            "sudo tar --extract --file={MOUNT_POINT}/packages.tar --directory=/ \
             --blocking-factor=2048 --skip-old-files --keep-directory-symlink ./usr\n\
             modules=/usr/local/lib/node_modules\n\
             sudo mkdir -p $modules/npm\n\
             sudo tar --extract --gzip --file={MOUNT_POINT}/npm.tgz --directory=$modules/npm \
             --strip-components=1 --no-same-owner\n\
             sudo ln -s $modules/npm/bin/npm-cli.js /usr/local/bin/npm"
        ));
    }
}

fn fetch_npm(archive: &Path) {
    let status = Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location"])
        .arg("--output")
        .arg(archive)
        .arg(NPM)
        .status()
        .expect("could not run `curl`");
    assert!(status.success(), "{status}");
    let digest = Sha512::digest(fs::read(archive).unwrap());
    assert_eq!(STANDARD.encode(digest), NPM_SHA512, "{NPM}");
}
