//! Programs that tests build: with the features of the tests, so that no dependency is compiled
//! again.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the target directory of this build. It contains the dependencies and the guest agent.
pub(crate) fn target_directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("a path under the target directory")
}

/// Runs `cargo build --quiet WORDS…` in `source`. Returns the directory of the programs.
#[track_caller]
pub(crate) fn build(source: &Path, words: &[&str], environment: &[(&str, &Path)]) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(source)
        .args(["build", "--quiet"])
        .args(words)
        .arg("--target-dir")
        .arg(target_directory())
        .envs(environment.iter().copied());
    // With the variables that the outer cargo sets for tests, crates would compile again.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        let of_the_test = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "OUT_DIR"];
        if of_the_test.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(variable);
        }
    }
    let status = cargo.status().unwrap();
    assert!(status.success(), "{words:?}: {status}");
    target_directory().join("debug")
}
