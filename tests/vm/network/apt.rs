//! The guest's package manager, and a mirror with one tiny package.

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::World;
use crate::harness::Host;

const PACKAGE: &str = "sandbox-test-package";

/// Serves a flat repository at `/apt` on every server.
pub(super) fn serve_repository(world: &World, directory: &Path) {
    let package = package(directory);
    let index = format!(
        "Package: {PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: A Test <test@example.com>\n\
         Filename: ./{PACKAGE}.deb\nSize: {}\nSHA256: {}\nDescription: a word\n",
        package.len(),
        digest(&package)
    );
    let release = format!(
        "Suite: test\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {} {} Packages\n",
        digest(index.as_bytes()),
        index.len()
    );
    for (name, contents) in [
        (&*format!("{PACKAGE}.deb"), package),
        ("Packages", index.into_bytes()),
        ("Release", release.into_bytes()),
    ] {
        world
            .servers
            .add_file(&format!("/apt/./{name}"), contents.clone());
        world.servers.add_file(&format!("/apt/{name}"), contents);
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Builds a package with one file.
fn package(directory: &Path) -> Vec<u8> {
    let tree = directory.join(PACKAGE);
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::create_dir_all(tree.join("usr/share/sandbox-test")).unwrap();
    let control = format!(
        "Package: {PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: A Test <test@example.com>\n\
         Description: a word\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    fs::write(
        tree.join("usr/share/sandbox-test/word"),
        "from the mirror\n",
    )
    .unwrap();
    let built = directory.join("built.deb");
    let status = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .args([&tree, &built])
        .stdout(std::process::Stdio::null())
        .status()
        .expect("could not run `dpkg-deb`");
    assert!(status.success(), "{status}");
    fs::read(built).unwrap()
}

/// Returns a script that runs `apt-get ARGUMENTS` with `host` as the only package source.
/// The timeout ends an apt-get that hangs.
fn script(host: &str, arguments: &str) -> String {
    format!(
        "echo 'deb [trusted=yes] http://{host}/apt ./' | sudo tee /etc/apt/test.list >&2\n\
         sudo timeout 200 apt-get -q -o Dir::Etc::SourceList=/etc/apt/test.list \
         -o Dir::Etc::SourceParts=- -o APT::Update::Error-Mode=any {arguments} >&2"
    )
}

/// Expects that `mirror.test` is allowed and `denied.test` is not.
pub(super) fn install_from_allowed_mirror(host: &Host) {
    let denied = host.exec(&["sh", "-c", &script("denied.test", "update")]);
    assert_eq!(denied.status, 100, "{denied}");
    host.guest(&script("mirror.test", "update"));
    host.guest(&script("mirror.test", &format!("install -y {PACKAGE}")));
    let word = host.guest("cat /usr/share/sandbox-test/word");
    assert_eq!(word, "from the mirror");
}
