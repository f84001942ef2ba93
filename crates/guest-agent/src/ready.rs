//! Makes a cold start ready, then starts the rest of Debian.
//!
//! systemd listens for SSH before it starts the agent. The agent mounts the
//! shares and waits until the root file system has grown. Cloud-init comes
//! before readiness if the seed asks for it.

use std::path::Path;
use std::time::Duration;
use std::{fs, io, thread};

use crate::cloud_init::{self, CloudInitError};
use crate::events::{self, Event};
use crate::root::{self, RootError};
use crate::shares::{self, ShareError};
use crate::systemctl::{SystemctlError, systemctl};
use crate::{credentials, generators, report, seed};

/// The target of the whole system.
const FULL_SYSTEM: &str = "multi-user.target";

/// Delay after readiness, so that the first command has the processors to
/// itself.
const FIRST_COMMAND_HEAD_START: Duration = Duration::from_millis(1500);

/// This file exists once all steps are done. An agent that systemd has restarted
/// does not repeat them.
const DONE: &str = "/run/sandbox/settled";

/// A step that failed.
#[derive(Debug, thiserror::Error)]
enum ReadyError {
    #[error("could not unmask the systemd generators")]
    Generators { source: io::Error },
    #[error("could not write `{DONE}`")]
    Mark { source: io::Error },
    #[error(transparent)]
    Share(#[from] ShareError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    CloudInit(#[from] CloudInitError),
    #[error(transparent)]
    Systemctl(#[from] SystemctlError),
}

/// Makes the sandbox ready and starts the rest of Debian. Sends an event for
/// each, or the reason of a failure.
pub(crate) fn run() {
    if Path::new(DONE).exists() {
        return;
    }
    // Of this thread and its children: only the agent's answers are urgent.
    let _ = rustix::process::setpriority_process(None, 0);
    if let Err(error) = become_ready() {
        let reason = report::chain(&error);
        report::log(&reason);
        events::send(&Event::Failed { reason: &reason });
    }
}

fn become_ready() -> Result<(), ReadyError> {
    shares::mount_from_units(Path::new("/run"))?;
    root::wait_until_grown()?;
    if seed::wants_cloud_init(credentials::boot_credential("sandbox.cloud-init").as_deref()) {
        events::send(&Event::Waiting { what: "cloud-init" });
        start_full_system()?;
        let state = cloud_init::run()?;
        events::send(&Event::Ready {
            cloud_init: Some(&state),
        });
    } else {
        events::send(&Event::Ready { cloud_init: None });
        thread::sleep(FIRST_COMMAND_HEAD_START);
        start_full_system()?;
    }
    fs::write(DONE, "").map_err(|source| ReadyError::Mark { source })?;
    events::send(&Event::Settled);
    Ok(())
}

fn start_full_system() -> Result<(), ReadyError> {
    generators::unmask().map_err(|source| ReadyError::Generators { source })?;
    systemctl(&["daemon-reload"])?;
    Ok(systemctl(&["start", FULL_SYSTEM])?)
}
