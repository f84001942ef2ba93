//! A command to run in the guest.

use std::ffi::OsString;
use std::path::PathBuf;

use sandbox::{EnvironmentVariable, Exec, Sandbox};

/// A command for the guest.
#[derive(Debug, Clone)]
pub struct GuestCommand {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// The directory to start in; `None` for the user's home directory.
    pub workdir: Option<PathBuf>,
    /// Variables added to the environment of the session.
    pub environment: Vec<EnvironmentVariable>,
    /// The user, by a name or number of the guest.
    pub user: String,
}

impl GuestCommand {
    /// Converts the command for the library.
    pub fn exec(&self, sandbox: &Sandbox) -> Exec {
        let program = self.argv.first().cloned().unwrap_or_default();
        let variables = self
            .environment
            .iter()
            .map(|variable| (variable.name(), variable.value()));
        let exec = sandbox
            .exec(program)
            .args(self.argv.iter().skip(1))
            .envs(variables)
            .user(&*self.user);
        match &self.workdir {
            Some(directory) => exec.current_dir(directory),
            None => exec,
        }
    }
}
