//! The last steps of a restored guest, after readiness: the services that the
//! template was saved without, and variables for those it was saved with.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, io, thread};

use crate::credentials::Credentials;
use crate::events::{self, Event};
use crate::files::DEV;
use crate::systemctl::{self, SystemctlError};
use crate::{environment, report};

/// Head start of the first command.
const FIRST_COMMAND: Duration = Duration::from_millis(1500);

/// How far the programs that do this step back behind those of the user.
const NICENESS: i32 = 10;

const SYSTEMCTL: &str = "/usr/bin/systemctl";

const JOURNAL: &str = "systemd-journald.service";
const CONSOLE: &str = "serial-getty@ttyS0.service";

/// Where the journal keeps its files, in a directory for each machine.
const JOURNAL_FILES: &str = "/run/log/journal";

/// Why the guest is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Systemctl(#[from] SystemctlError),
    #[error("could not remove the template's journal")]
    Journal { source: io::Error },
}

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Assignments for the environment of services.
    environment: Vec<String>,
}

impl Plan {
    /// What the seed asks for.
    pub(crate) fn new(credentials: &Credentials) -> Self {
        let text = credentials.text("sandbox.environment").unwrap_or_default();
        Self {
            environment: environment::assignments(&text).map(str::to_owned).collect(),
        }
    }

    /// Does it, one after the other.
    pub(crate) fn carry_out(mut self) -> Result<(), SettleError> {
        self.set_environment()?;
        begin_journal()?;
        Ok(systemctl::systemctl(&["start", CONSOLE])?)
    }

    /// Does the part that services need, now rather than later.
    pub(crate) fn set_environment(&mut self) -> Result<(), SettleError> {
        if !self.environment.is_empty() {
            systemctl::run(Command::new(SYSTEMCTL).args(self.words()))?;
            self.set_environment_of_dev()?;
            self.environment.clear();
        }
        Ok(())
    }

    fn words(&self) -> impl Iterator<Item = &OsStr> {
        let values = self.environment.iter().map(OsStr::new);
        std::iter::once(OsStr::new("set-environment")).chain(values)
    }

    /// The user manager of `dev` has run since before there was a seed.
    fn set_environment_of_dev(&self) -> Result<(), SystemctlError> {
        let runtime = format!("/run/user/{}", DEV.0);
        if !Path::new(&runtime).join("systemd/private").exists() {
            return Ok(());
        }
        let mut command = Command::new(SYSTEMCTL);
        command
            .arg("--user")
            .args(self.words())
            .env("XDG_RUNTIME_DIR", runtime)
            .uid(DEV.0)
            .gid(DEV.0);
        systemctl::run(&mut command)
    }
}

/// Carries a plan out, if there is still one, after the first command's head
/// start, and tells the host. On a thread of its own.
pub(crate) fn settle_later(plan: Option<Plan>) {
    thread::spawn(move || {
        // Of this thread alone, and of what it starts.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        if let Some(plan) = plan {
            thread::sleep(FIRST_COMMAND);
            if let Err(error) = plan.carry_out() {
                report::log(&report::chain(&error));
            }
        }
        events::send(&Event::Settled);
    });
}

/// Starts the journal. If a late message of the template's has started it
/// before, it must go, and what it wrote.
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
