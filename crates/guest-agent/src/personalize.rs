//! Personalizes a restored guest: applies the seed of its sandbox.
//!
//! The user waits for all steps before readiness. So they start no other
//! programs, except in proxy mode, with secrets, and for cloud-init.

use std::io;
use std::path::Path;
use std::time::Instant;

use sandbox_protocol::agent::message::Start;

use crate::cloud_init::{self, CloudInitError};
use crate::credentials::{self, Credentials};
use crate::events::{self, Event};
use crate::files::{self, ROOT, WriteError};
use crate::network::{Network, NetworkError};
use crate::root::{self, RootError};
use crate::settle::{self, SettleError};
use crate::shares::{self, ShareError};
use crate::{egress, kernel, quiesce, seed};

/// A step of the personalization that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PersonalizeError {
    #[error("the guest is not quiesced")]
    NotQuiescent { source: io::Error },
    #[error("could not add the host's entropy")]
    Entropy { source: io::Error },
    #[error("could not set the clock")]
    Clock { source: io::Error },
    #[error("could not change the boot ID")]
    BootId { source: io::Error },
    #[error("could not set the host name")]
    HostName { source: io::Error },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Share(#[from] ShareError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Settle(#[from] SettleError),
    #[error(transparent)]
    CloudInit(#[from] CloudInitError),
}

/// Applies the seed. Returns the steps that remain after readiness.
pub(crate) fn run(start: Start) -> Result<Option<settle::Plan>, PersonalizeError> {
    quiesce::unmark().map_err(|source| PersonalizeError::NotQuiescent { source })?;
    let received = Instant::now();
    // Before all steps that use random numbers.
    kernel::add_entropy(&start.entropy).map_err(|source| PersonalizeError::Entropy { source })?;
    kernel::renew_boot_id().map_err(|source| PersonalizeError::BootId { source })?;

    let credentials = Credentials::from(start.credentials);
    let network = credentials
        .text("sandbox.network")
        .filter(|text| credentials::boot_credential("sandbox.network").as_ref() != Some(text))
        .map(|text| text.parse::<Network>())
        .transpose()?;
    seed::set_hostname(&credentials).map_err(|source| PersonalizeError::HostName {
        source: source.into(),
    })?;
    seed::apply(
        &credentials,
        network.as_ref(),
        Path::new("/"),
        Path::new("/run"),
    )?;
    if let Some(id) = credentials.text("system.machine_id") {
        let line = format!("{}\n", id.trim());
        files::write(Path::new("/etc/machine-id"), line.as_bytes(), 0o444, ROOT)?;
    }
    let mut plan = settle::Plan::new(&credentials);
    if egress::is_restricted(&credentials) {
        plan.set_environment()?;
    }
    if start.grow_root {
        root::grow_mounted()?;
    }

    // These two steps keep systemd busy: it handles new mounts and a new time.
    for share in shares::from_seed(&credentials)? {
        share.mount()?;
    }
    kernel::set_clock(start.wall_clock_ns, received.elapsed())
        .map_err(|source| PersonalizeError::Clock { source })?;
    if !seed::wants_cloud_init(credentials.text("sandbox.cloud-init").as_deref()) {
        return Ok(Some(plan));
    }
    // The programs of cloud-init need the complete system.
    plan.carry_out()?;
    events::send(&Event::Waiting { what: "cloud-init" });
    cloud_init::run()?;
    Ok(None)
}
