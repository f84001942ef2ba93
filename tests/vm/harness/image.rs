//! The base image of the VM tests, built by the program under test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sandbox_store::image::Recipe;
use serde_json::Value;

use crate::PROGRAM;

/// The recipe of the image.
pub(crate) const IMAGE: &str = "debian-13-minimal";

/// Returns an image store with [`IMAGE`], built at the first use and kept until the
/// recipe changes. Tests only read it.
pub(crate) fn store() -> &'static Path {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| {
        let recipe = Recipe::embedded(&IMAGE.parse().unwrap()).unwrap();
        let hash: String = recipe.hash().hex().chars().take(16).collect();
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let home = parent.join(format!("vm-images-{hash}"));
        fs::create_dir_all(&home).unwrap();
        // Another test run may be building it.
        let lock = File::create(home.join("tests.lock")).unwrap();
        lock.lock().unwrap();
        let store = home.join("kvm-cache");
        if !store
            .join("images")
            .join(IMAGE)
            .join("metadata.json")
            .exists()
        {
            remove_outdated(parent, &home);
            build(&home);
        }
        // Does nothing if this program and this QEMU already have a template.
        build_template(&home);
        store
    })
}

/// Returns the metadata of [`IMAGE`].
pub(crate) fn metadata() -> Value {
    let directory = store().join("images").join(IMAGE);
    serde_json::from_slice(&fs::read(directory.join("metadata.json")).unwrap()).unwrap()
}

fn build(home: &Path) {
    eprintln!("building {IMAGE} for the tests, in {}", home.display());
    run(home, &["image", "build", IMAGE]);
}

/// Builds the template from which most tests restore: that is the fastest start.
fn build_template(home: &Path) {
    let arguments = ["template", "build", "--image", IMAGE, "--accel", "tcg"];
    run(home, &arguments);
}

/// Runs the program under test with its state in `home`.
fn run(home: &Path, arguments: &[&str]) {
    let status = Command::new(PROGRAM)
        .args(arguments)
        .env("SANDBOX_HOME", home)
        .status()
        .unwrap();
    assert!(status.success(), "{arguments:?}: {status}");
}

/// Removes images whose recipe has changed.
fn remove_outdated(parent: &Path, home: &Path) {
    for entry in fs::read_dir(parent).unwrap().flatten() {
        let outdated = entry
            .file_name()
            .to_string_lossy()
            .starts_with("vm-images-");
        if outdated && entry.path() != home {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}
