//! A build of `sandbox`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Result, repository};

/// A build of `sandbox`, and the directory in which its commands run.
pub(crate) struct Program {
    path: PathBuf,
    directory: PathBuf,
    version: String,
}

impl Program {
    /// Returns the program at `path`, which a relative path finds from the root of the
    /// repository, and asks it for its version.
    pub(crate) fn new(path: &Path, directory: &Path) -> Result<Self> {
        let mut program = Self {
            // Its commands run in another directory.
            path: repository().join(path),
            directory: directory.to_owned(),
            version: String::new(),
        };
        let output = Command::new(&program.path).arg("--version").output();
        let output = output
            .map_err(|error| format!("could not run `{}`: {error}", program.path.display()))?;
        program.version = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(program)
    }

    /// Returns the path of the program.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what `--version` prints.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Returns `sandbox ARGUMENTS…`, without stdin and stdout. Only `template build` builds
    /// templates.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .env("SANDBOX_TEMPLATES", "manual")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}
