//! A cold start's way to readiness, and from there to all of Debian.
//!
//! systemd listens for SSH before it starts the agent, the agent answers and
//! mounts the shares, the root file system has grown meanwhile: nothing is left
//! to wait for but cloud-init, if the seed wants it.

use std::path::Path;
use std::time::Duration;
use std::{fs, io, thread};

use crate::cloud_init::{self, CloudInitError};
use crate::events::{self, Event};
use crate::root::{self, RootError};
use crate::shares::{self, ShareError};
use crate::systemctl::{SystemctlError, systemctl};
use crate::{credentials, generators, report, seed};

/// All of Debian.
const FULL_SYSTEM: &str = "multi-user.target";

/// Head start of the first command: for so long after readiness the rest of
/// Debian does not compete with it for the processors.
const FIRST_COMMAND: Duration = Duration::from_millis(1500);

/// There once all this is done: an agent that systemd has restarted does not
/// do it again.
const DONE: &str = "/run/sandbox/settled";

/// Why the sandbox is not ready, or not complete.
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

/// Tells the host that the sandbox is ready, or why it is not, and starts the
/// rest of Debian.
pub(crate) fn run() {
    if Path::new(DONE).exists() {
        return;
    }
    // What is started here has no hurry, unlike the agent.
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
        start_everything()?;
        let state = cloud_init::run()?;
        events::send(&Event::Ready {
            cloud_init: Some(&state),
        });
    } else {
        events::send(&Event::Ready { cloud_init: None });
        thread::sleep(FIRST_COMMAND);
        start_everything()?;
    }
    fs::write(DONE, "").map_err(|source| ReadyError::Mark { source })?;
    events::send(&Event::Settled);
    Ok(())
}

fn start_everything() -> Result<(), ReadyError> {
    generators::unmask().map_err(|source| ReadyError::Generators { source })?;
    systemctl(&["daemon-reload"])?;
    Ok(systemctl(&["start", FULL_SYSTEM])?)
}
