//! The QEMU program: its path, its version and its features.

mod features;
mod version;

use sandbox_host::hint::Hint;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

pub use features::{Features, probe_features};
pub use version::{LEAST_VERSION, QemuVersion};

use crate::arch::PROGRAM;
use crate::probe_cache;
use sandbox_host::bounded_command::run_bounded;
use sandbox_host::distribution::Distribution;

/// The environment variable that overrides the program. The caller reads it.
pub const OVERRIDE_VARIABLE: &str = "SANDBOX_QEMU";

/// The name of the file in the cache directory that holds the version.
pub const CACHE_FILE: &str = "qemu-version.json";

/// The time limit for an answer of the program. QEMU reports its version in 20 ms. A cold disk on a
/// busy machine takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A usable QEMU program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuProgram {
    /// The path, absolute unless the search path or the override is relative.
    pub path: PathBuf,
    /// The version, at least [`LEAST_VERSION`].
    pub version: QemuVersion,
}

/// The parameters of the search for QEMU.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The value of [`OVERRIDE_VARIABLE`]: a path, or a name on the search path. An empty value
    /// counts as unset.
    pub program_override: Option<&'a OsStr>,
    /// The value of `PATH`.
    pub search_path: Option<&'a OsStr>,
    /// The directory that caches the version.
    pub cache_directory: &'a Path,
}

/// No usable QEMU was found.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The search path has no executable program of that name.
    #[error("QEMU is not installed: program `{name}` not found on the `PATH`")]
    Missing {
        /// The program's name.
        name: String,
    },
    /// [`OVERRIDE_VARIABLE`] names a program that does not exist or is not executable.
    #[error("program `{value}` of `{OVERRIDE_VARIABLE}` not found or not executable")]
    OverrideMissing {
        /// The variable's value.
        value: String,
    },
    /// The program could not be run.
    #[error("could not run `{} --version`", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// The cause; [`io::ErrorKind::TimedOut`] if the program did not answer.
        #[source]
        source: io::Error,
    },
    /// The program's answer contains no QEMU version.
    #[error("`{} --version` did not report a QEMU version: `{answer}`", path.display())]
    UnknownVersion {
        /// The program.
        path: PathBuf,
        /// The first line of the answer.
        answer: String,
    },
    /// The program is older than [`LEAST_VERSION`].
    #[error("QEMU {version} (`{}`) is too old: at least {LEAST_VERSION} is needed", path.display())]
    TooOld {
        /// The program.
        path: PathBuf,
        /// The program's version.
        version: QemuVersion,
    },
}

impl ProgramError {
    /// Returns the next step for the user on this machine's distribution.
    pub fn hint(&self) -> Option<Hint> {
        self.hint_for(Distribution::of_this_machine())
            .map(Hint::from)
    }

    fn hint_for(&self, distribution: Distribution) -> Option<String> {
        Some(match self {
            Self::Missing { .. } => match distribution.install_command(package(distribution)) {
                Some(command) => format!("install it: `{command}`"),
                None => format!(
                    "install QEMU's system emulation for x86-64, or set `{OVERRIDE_VARIABLE}` to its path"
                ),
            },
            Self::OverrideMissing { .. } | Self::UnknownVersion { .. } => {
                format!("set `{OVERRIDE_VARIABLE}` to the path of a `{PROGRAM}`, or unset it")
            }
            Self::Run { path, .. } => format!("try it yourself: `{} --version`", path.display()),
            Self::TooOld { .. } => format!(
                "install QEMU {LEAST_VERSION} or later (Debian 12, Ubuntu 24.04 and later have \
                 it), or set `{OVERRIDE_VARIABLE}` to its path"
            ),
        })
    }
}

/// Returns the package that contains [`PROGRAM`].
fn package(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::Suse => "qemu-x86",
        Distribution::Alpine => "qemu-system-x86_64",
        Distribution::Debian | Distribution::Fedora | Distribution::Arch | Distribution::Other => {
            "qemu-system-x86"
        }
    }
}

/// Finds QEMU and its version. Runs the program only if its path, size or modification time differ
/// from those of the cached version.
///
/// # Errors
///
/// If QEMU is missing, does not answer, or is too old.
pub fn locate(search: Search<'_>) -> Result<QemuProgram, ProgramError> {
    let path = find(search)?;
    let version = version_of(&path, search.cache_directory)?;
    if version < LEAST_VERSION {
        return Err(ProgramError::TooOld { path, version });
    }
    Ok(QemuProgram { path, version })
}

/// Returns the cached version of the program that [`locate`] would find. Never runs the program.
pub fn remembered_version(search: Search<'_>) -> Option<QemuVersion> {
    let path = find(search).ok()?;
    let key = CacheKey::of(&path).ok()?;
    probe_cache::recall(&search.cache_directory.join(CACHE_FILE), &key)
}

fn find(search: Search<'_>) -> Result<PathBuf, ProgramError> {
    let overridden = search.program_override.filter(|value| !value.is_empty());
    let name = overridden.unwrap_or(OsStr::new(PROGRAM));
    on_search_path(name, search.search_path).ok_or_else(|| {
        let name = name.to_string_lossy().into_owned();
        match overridden {
            Some(_) => ProgramError::OverrideMissing { value: name },
            None => ProgramError::Missing { name },
        }
    })
}

/// Returns the program that a shell would run for `name`. A name with a slash is a path. Any other
/// name is looked up in the directories of `search_path`, and the first match wins.
pub fn on_search_path(name: &OsStr, search_path: Option<&OsStr>) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| path.is_file() && access(path.as_path(), AccessFlags::X_OK).is_ok();
    if name.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(is_program);
    }
    std::env::split_paths(search_path?)
        .map(|directory| directory.join(name))
        .find(is_program)
}

/// Identifies a build of a program.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CacheKey {
    path: PathBuf,
    size: u64,
    changed_ns: i128,
}

impl CacheKey {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            size: metadata.size(),
            changed_ns: i128::from(metadata.mtime()) * 1_000_000_000
                + i128::from(metadata.mtime_nsec()),
        })
    }
}

fn version_of(path: &Path, cache_directory: &Path) -> Result<QemuVersion, ProgramError> {
    let run_error = |source| ProgramError::Run {
        path: path.to_owned(),
        source,
    };
    let key = CacheKey::of(path).map_err(run_error)?;
    let file = cache_directory.join(CACHE_FILE);
    if let Some(version) = probe_cache::recall(&file, &key) {
        return Ok(version);
    }
    let output =
        run_bounded(Command::new(path).arg("--version"), ANSWER_LIMIT).map_err(run_error)?;
    let version = QemuVersion::parse_answer(&output.text).ok_or_else(|| {
        let answer = output.text.lines().next().unwrap_or_default().to_owned();
        ProgramError::UnknownVersion {
            path: path.to_owned(),
            answer,
        }
    })?;
    probe_cache::remember(&file, key, version);
    Ok(version)
}

#[cfg(test)]
mod tests;
