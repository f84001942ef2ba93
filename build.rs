//! Embeds the base images' recipes and the guest agent into the program.

use std::error::Error;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use sha2::{Digest as _, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Folders of the repository whose files are embedded.
const EMBEDDED_FOLDERS: [&str; 2] = ["images", "systemd-units"];

/// The profile of the root `Cargo.toml` that the guest agent is built with.
const GUEST_PROFILE: &str = "guest";

fn main() -> Result<()> {
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let output = PathBuf::from(variable("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    embed_folders(&source, &output.join("embedded_files.rs"))?;
    for part in [
        "guest-agent",
        "crates/sandbox-protocol",
        "Cargo.lock",
        "Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={part}");
    }
    build_guest_agent(&source, &output)
}

/// Writes a table of all files in [`EMBEDDED_FOLDERS`], sorted by path.
fn embed_folders(source: &Path, table: &Path) -> Result<()> {
    let mut files = Vec::new();
    for folder in EMBEDDED_FOLDERS {
        println!("cargo::rerun-if-changed={folder}");
        let path = source.join(folder);
        if path.is_dir() {
            collect_files(&path, &mut files)?;
        }
    }
    files.sort();
    let mut text = String::from("pub(super) static FILES: &[EmbeddedFile] = &[\n");
    for file in files {
        let executable = fs::metadata(&file)?.permissions().mode() & 0o111 != 0;
        let path = file.strip_prefix(source)?;
        writeln!(
            text,
            "    EmbeddedFile {{ path: {path:?}, executable: {executable}, \
             contents: include_bytes!({file:?}) }},"
        )?;
    }
    text.push_str("];\n");
    fs::write(table, text)?;
    Ok(())
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect_files(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        } else {
            return Err(format!("`{}` is not a regular file", entry.path().display()).into());
        }
    }
    Ok(())
}

/// Builds the crate `guest-agent` as a static program and copies it to `output`.
///
/// Its target directory is its own: the outer cargo holds the lock of the usual one.
fn build_guest_agent(source: &Path, output: &Path) -> Result<()> {
    let target = format!("{}-unknown-linux-gnu", variable("CARGO_CFG_TARGET_ARCH")?);
    let target_directory = output.join("guest-agent-target");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(source)
        .args(["build", "--package", "guest-agent", "--locked"])
        .args(["--profile", GUEST_PROFILE, "--target", &target])
        .env("CARGO_TARGET_DIR", &target_directory)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    // What the outer cargo, clippy or a coverage tool wants for the host's crates.
    for inherited in [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
    ] {
        cargo.env_remove(inherited);
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building the guest agent failed: {status}").into());
    }
    let program = target_directory
        .join(target)
        .join(GUEST_PROFILE)
        .join("guest-agent");
    // Hashed here and not at each start.
    let digest = Sha256::digest(fs::read(&program)?);
    let digits = digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    println!("cargo::rustc-env=GUEST_AGENT_SHA256={digits}");
    fs::copy(program, output.join("guest-agent"))?;
    Ok(())
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|cause| format!("`{name}`: {cause}").into())
}
