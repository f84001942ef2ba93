//! Embeds the recipes of the base images and the guest agent.

use std::error::Error;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use sha2::{Digest as _, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Folders whose files are embedded. They are links in the repository, and folders in a package.
const EMBEDDED_FOLDERS: [&str; 2] = ["images", "systemd-units"];

/// The variable with the path of a built guest agent, for packagers and cross builds.
const AGENT_VARIABLE: &str = "SANDBOX_GUEST_AGENT";

/// The variable that docs.rs sets, where no network is available for the agent's dependencies.
const DOCUMENTATION_VARIABLE: &str = "DOCS_RS";

/// The compiler settings of the agent. Each start loads the agent into memory and runs it on an
/// emulated CPU, so it must be small. A published package has no profiles, so they are options.
const AGENT_PROFILE: [&str; 5] = [
    "profile.release.opt-level=\"s\"",
    "profile.release.lto=\"fat\"",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=true",
];

fn main() -> Result<()> {
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let output = PathBuf::from(variable("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    embed_folders(&source, &output.join("embedded_files.rs"))?;
    embed_agent(&output)
}

/// Writes a table of all files in [`EMBEDDED_FOLDERS`], sorted by path.
fn embed_folders(source: &Path, table: &Path) -> Result<()> {
    let mut files = Vec::new();
    for folder in EMBEDDED_FOLDERS {
        println!("cargo::rerun-if-changed={folder}");
        collect_files(&source.join(folder), &mut files)?;
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

/// Writes the agent to `output`, and its digest to the environment of the compiler, so that no
/// start hashes it.
fn embed_agent(output: &Path) -> Result<()> {
    for name in [AGENT_VARIABLE, DOCUMENTATION_VARIABLE] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let program = match (
        env::var_os(AGENT_VARIABLE),
        env::var_os(DOCUMENTATION_VARIABLE),
    ) {
        (Some(program), _) => {
            println!("cargo::rerun-if-changed={}", Path::new(&program).display());
            fs::read(&program)
                .map_err(|cause| format!("`{AGENT_VARIABLE}`: `{}`: {cause}", program.display()))?
        }
        (None, Some(_)) => Vec::new(),
        (None, None) => fs::read(build_agent(output)?)?,
    };
    let digest = Sha256::digest(&program);
    let digits = digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    println!("cargo::rustc-env=GUEST_AGENT_SHA256={digits}");
    fs::write(output.join("guest-agent"), program)?;
    Ok(())
}

/// Compiles the agent as a static program and returns its path.
///
/// All profiles of the host's crates share one directory. It is not the usual target directory,
/// whose lock the outer cargo holds.
fn build_agent(output: &Path) -> Result<PathBuf> {
    let source = Path::new(guest_agent_source::DIRECTORY);
    watch_agent(source);
    let target = format!("{}-unknown-linux-gnu", variable("CARGO_CFG_TARGET_ARCH")?);
    let target_directory = shared_directory(output)?.join("guest-agent");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(source)
        .args(["build", "--release", "--locked", "--bin", "guest-agent"])
        .args(["--target", &target])
        .args(
            AGENT_PROFILE
                .iter()
                .flat_map(|setting| ["--config", *setting]),
        )
        .env("CARGO_TARGET_DIR", &target_directory)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    // The outer cargo, clippy or a coverage tool sets these for the host's crates.
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
        return Err(format!("could not build the guest agent: {status}").into());
    }
    Ok(target_directory.join(target).join("release/guest-agent"))
}

/// Returns the target directory, from `TARGET_DIRECTORY[/TRIPLE]/PROFILE/build/PACKAGE/out`. No
/// file marks it: cargo writes its `CACHEDIR.TAG` only into a directory that it created itself.
fn shared_directory(output: &Path) -> Result<PathBuf> {
    let above_profile = output
        .ancestors()
        .nth(4)
        .ok_or_else(|| format!("`OUT_DIR`: `{}` is too short", output.display()))?;
    let triple = variable("TARGET")?;
    Ok(match above_profile.parent() {
        Some(directory) if above_profile.ends_with(&triple) => directory.to_owned(),
        _ => above_profile.to_owned(),
    })
}

/// Tells cargo to run this script again if the agent changes. In the repository, its source, the
/// protocol and the workspace's manifests can change. In a package, nothing changes.
fn watch_agent(source: &Path) {
    let beside = |name: &str| source.with_file_name(name);
    let workspace = source.ancestors().nth(2);
    let manifests = workspace
        .into_iter()
        .flat_map(|root| ["Cargo.toml", "Cargo.lock"].map(|name| root.join(name)));
    for path in [source.to_owned(), beside("sandbox-protocol")]
        .into_iter()
        .chain(manifests)
        .filter(|path| path.exists())
    {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|cause| format!("`{name}`: {cause}").into())
}
