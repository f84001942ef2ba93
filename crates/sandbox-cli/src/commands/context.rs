//! What every command needs.

use std::path::PathBuf;

use sandbox::{Found, Host, Sandbox, SandboxBuilder, SandboxName, StartOptions};

use crate::output::{Printer, Report, worded_hint};
use crate::settings;

/// The state of one invocation.
pub(super) struct Context {
    pub(super) host: Host,
    pub(super) printer: Printer,
}

impl Context {
    pub(super) fn new(printer: Printer) -> Result<Self, Report> {
        // Supervisors run in this very program.
        let host = Host::from_environment()?.program("/proc/self/exe");
        Ok(Self { host, printer })
    }

    /// What the user's configuration file says. Commands that start nothing do not read it, so that
    /// a mistake in it keeps nobody from stopping a sandbox.
    pub(super) fn configuration(&self) -> Result<StartOptions, Report> {
        Ok(settings::read(&self.host.directories().config_file())?)
    }

    /// What is wrong with the configuration file, in one line, and what mends it.
    pub(super) fn configuration_error(&self) -> Option<(String, Option<String>)> {
        let error = settings::read(&self.host.directories().config_file()).err()?;
        let causes =
            std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        let line = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let hint = error.hint().map(|hint| worded_hint(&hint));
        Some((line.collect::<Vec<_>>().join(" "), hint))
    }

    /// A wish for the sandbox of the current directory, with these flags and the configuration.
    pub(super) fn wish(&self, flags: StartOptions) -> Result<SandboxBuilder, Report> {
        Ok(Sandbox::builder(&self.host)
            .options(flags)
            .defaults(self.configuration()?)
            .variables(|name| std::env::var_os(name))
            .workspace(current_directory()?))
    }

    /// The name: the one given, or that of the current directory.
    pub(super) fn name(&self, given: Option<&SandboxName>) -> Result<SandboxName, Report> {
        match given {
            Some(name) => Ok(name.clone()),
            None => Ok(self.host.name_for(&current_directory()?)?),
        }
    }

    /// The running sandbox of that name.
    pub(super) fn running(&self, given: Option<&SandboxName>) -> Result<Found, Report> {
        Ok(self.host.running(&self.name(given)?)?)
    }
}

/// The current directory, which may be gone.
fn current_directory() -> Result<PathBuf, Report> {
    std::env::current_dir().map_err(|error| {
        let error = sandbox_host::files::FileError::new("find the current directory", ".")(error);
        Report::of(&error, Some("change into a directory that exists".into()))
    })
}
