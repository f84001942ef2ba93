//! Packages of Debian for the guests of tests and benches.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Where the packages of an image come from.
#[derive(Debug)]
pub struct PackageSource {
    /// The mirror's URL.
    pub mirror: String,
    /// The suite, such as `trixie`.
    pub suite: String,
}

impl PackageSource {
    /// Returns the source that this metadata of an image records.
    pub fn of_image(metadata: &Value) -> Self {
        let recorded = |key: &str| metadata["content"][key].as_str().unwrap().to_owned();
        Self {
            mirror: recorded("mirror"),
            suite: recorded("suite"),
        }
    }
}

/// Unpacks these packages, separated by commas, and their dependencies into a tar archive. Leaves
/// out the `excluded` paths, and runs no script of a package.
pub fn fetch_packages(
    PackageSource { mirror, suite }: &PackageSource,
    packages: &str,
    excluded: &[&str],
    archive: &Path,
) {
    let keyring = KEYRINGS.iter().find(|path| Path::new(path).exists());
    let keyring = keyring.expect("`debian-archive-keyring` is not installed");
    let status = Command::new("mmdebstrap")
        .args(["--quiet", "--mode=auto", "--variant=extract"])
        .args(["--format=tar", "--architectures=amd64"])
        .arg(format!("--keyring={keyring}"))
        .arg(format!("--include={packages}"))
        .args(
            excluded
                .iter()
                .map(|path| format!("--dpkgopt=path-exclude={path}")),
        )
        .arg(suite)
        .arg(archive)
        .arg(format!("deb {mirror} {suite} main"))
        .arg(format!("deb {mirror} {suite}-updates main"))
        .status()
        .expect("could not run `mmdebstrap`");
    assert!(status.success(), "{status}");
}
