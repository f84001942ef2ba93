//! The context of a command.

use std::path::PathBuf;

use sandbox::{Found, Host, Sandbox, SandboxBuilder, SandboxName, StartOptions};

use crate::output::{Printer, Report, worded_hint};
use crate::settings;

/// The host and the printer of one invocation.
pub(super) struct Context {
    pub(super) host: Host,
    pub(super) printer: Printer,
}

impl Context {
    pub(super) fn new(printer: Printer) -> Result<Self, Report> {
        // Supervisors run this program.
        let host = Host::from_environment()?.program("/proc/self/exe");
        Ok(Self { host, printer })
    }

    /// Reads the user's configuration file. Only commands that start a sandbox read it: an invalid
    /// file must not prevent `sandbox stop`.
    pub(super) fn configuration(&self) -> Result<StartOptions, Report> {
        Ok(settings::read(&self.host.directories().config_file())?)
    }

    /// Returns the error of the configuration file in one line, and its fix.
    pub(super) fn configuration_error(&self) -> Option<(String, Option<String>)> {
        let error = settings::read(&self.host.directories().config_file()).err()?;
        let causes =
            std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        let line = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let hint = error.hint().map(|hint| worded_hint(&hint));
        Some((line.collect::<Vec<_>>().join(" "), hint))
    }

    /// Returns a builder for the sandbox of the current directory, from flags, variables and the
    /// configuration file.
    pub(super) fn builder(&self, flags: StartOptions) -> Result<SandboxBuilder, Report> {
        Ok(Sandbox::builder(&self.host)
            .options(flags)
            .defaults(self.configuration()?)
            .variables(|name| std::env::var_os(name))
            .workspace(current_directory()?))
    }

    /// Returns the given name, or the name for the current directory.
    pub(super) fn name(&self, given: Option<&SandboxName>) -> Result<SandboxName, Report> {
        match given {
            Some(name) => Ok(name.clone()),
            None => Ok(self.host.name_for(&current_directory()?)?),
        }
    }

    /// Returns the running sandbox of that name.
    pub(super) fn running(&self, given: Option<&SandboxName>) -> Result<Found, Report> {
        Ok(self.host.running(&self.name(given)?)?)
    }
}

/// Returns the current directory. Fails if the directory no longer exists.
fn current_directory() -> Result<PathBuf, Report> {
    std::env::current_dir().map_err(|error| {
        let error = sandbox_host::files::FileError::new("find the current directory", ".")(error);
        Report::of(&error, Some("change to an existing directory".into()))
    })
}
