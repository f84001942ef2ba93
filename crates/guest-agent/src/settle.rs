//! The steps of a restored guest after readiness: starts the services that the
//! template was saved without, and sets the variables of the others.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;
use std::{fs, io, thread};

use crate::credentials::Credentials;
use crate::events::{self, Event};
use crate::files::DEV;
use crate::systemctl::{self, SystemctlError};
use crate::{environment, report};

/// Delay after readiness, so that the first command has the processors to
/// itself.
const FIRST_COMMAND_HEAD_START: Duration = Duration::from_millis(1500);

/// The nice value of these steps. Programs of the user have 0.
const NICENESS: i32 = 10;

const JOURNAL: &str = "systemd-journald.service";
const CONSOLE: &str = "serial-getty@ttyS0.service";

/// The directory of the journal in memory. It has a subdirectory for each
/// machine ID (systemd-journald.service(8)).
const JOURNAL_FILES: &str = "/run/log/journal";

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Systemctl(#[from] SystemctlError),
    #[error("could not remove the template's journal")]
    Journal { source: io::Error },
}

/// The steps to carry out.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Assignments for the environment of services.
    environment: Vec<String>,
}

impl Plan {
    /// Plans the steps for a seed.
    pub(crate) fn new(credentials: &Credentials) -> Self {
        let text = credentials.text("sandbox.environment").unwrap_or_default();
        Self {
            environment: environment::assignments(&text).map(str::to_owned).collect(),
        }
    }

    /// Carries out the steps, one after the other.
    pub(crate) fn carry_out(mut self) -> Result<(), SettleError> {
        self.set_environment()?;
        begin_journal()?;
        Ok(systemctl::systemctl(&["start", CONSOLE])?)
    }

    /// Sets the variables of services early. Then [`Self::carry_out`] omits this
    /// step.
    pub(crate) fn set_environment(&mut self) -> Result<(), SettleError> {
        if !self.environment.is_empty() {
            systemctl::run(systemctl::command().args(self.words()))?;
            self.set_environment_of_dev()?;
            self.environment.clear();
        }
        Ok(())
    }

    fn words(&self) -> impl Iterator<Item = &OsStr> {
        let values = self.environment.iter().map(OsStr::new);
        std::iter::once(OsStr::new("set-environment")).chain(values)
    }

    /// Sets the variables of the user manager of `dev`, which started before the
    /// seed arrived.
    fn set_environment_of_dev(&self) -> Result<(), SystemctlError> {
        let runtime = format!("/run/user/{}", DEV.0);
        if !Path::new(&runtime).join("systemd/private").exists() {
            return Ok(());
        }
        let mut command = systemctl::command();
        command
            .arg("--user")
            .args(self.words())
            .env("XDG_RUNTIME_DIR", runtime)
            .uid(DEV.0)
            .gid(DEV.0);
        systemctl::run(&mut command)
    }
}

/// Starts a thread that waits for the first command's head start, carries out
/// the plan and sends [`Event::Settled`]. Without a plan it only sends the event.
pub(crate) fn spawn(plan: Option<Plan>) {
    thread::spawn(move || {
        // In Linux, this affects only this thread and its children
        // (setpriority(2)).
        let _ = rustix::process::setpriority_process(None, NICENESS);
        if let Some(plan) = plan {
            thread::sleep(FIRST_COMMAND_HEAD_START);
            if let Err(error) = plan.carry_out() {
                report::log(&report::chain(&error));
            }
        }
        events::send(&Event::Settled);
    });
}

/// Starts the journal. A late message of the template may already have started
/// it with the template's machine ID. Then this removes that journal and
/// restarts the service.
fn begin_journal() -> Result<(), SettleError> {
    let machine_id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let failed = |source| SettleError::Journal { source };
    let mut verb = "start";
    let entries = match fs::read_dir(JOURNAL_FILES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries.map_err(failed)?),
    };
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes() != machine_id.trim().as_bytes() {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
            verb = "restart";
        }
    }
    Ok(systemctl::systemctl(&[verb, JOURNAL])?)
}
