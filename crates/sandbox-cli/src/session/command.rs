//! What to run in the guest.

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
    /// Added to the environment that the session has.
    pub environment: Vec<EnvironmentVariable>,
    /// Who runs it: a name or number known in the guest.
    pub user: String,
}

impl GuestCommand {
    /// The command as the library runs it.
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
