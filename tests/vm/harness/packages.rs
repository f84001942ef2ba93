//! Packages of Debian for the guests of tests.

use std::path::Path;
use std::process::Command;

use super::image;

const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Unpacks these packages, separated by commas, and their dependencies from the image's
/// mirror into a tar archive. Leaves out the `excluded` paths, and runs no script of a
/// package.
pub(crate) fn fetch(packages: &str, excluded: &[&str], archive: &Path) {
    let metadata = image::metadata();
    let recorded = |key: &str| metadata["content"][key].as_str().unwrap().to_owned();
    let (mirror, suite) = (recorded("mirror"), recorded("suite"));
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
        .arg(&suite)
        .arg(archive)
        .arg(format!("deb {mirror} {suite} main"))
        .arg(format!("deb {mirror} {suite}-updates main"))
        .status()
        .expect("could not run `mmdebstrap`");
    assert!(status.success(), "{status}");
}
