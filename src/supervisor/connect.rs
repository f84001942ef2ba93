//! The connections to a QEMU that has just started.

use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::SupervisorError;
use super::guest_events::GuestEvents;
use crate::StateLayout;
use sandbox_qemu::qmp;
use sandbox_qemu::qmp::QmpError;

/// The interval between two attempts to connect to a socket of QEMU.
const SOCKET_RETRY: Duration = Duration::from_millis(2);

/// How long QEMU may take to create its sockets. A QEMU of the idle class on a busy host needs
/// long.
const SOCKET_DEADLINE: Duration = Duration::from_secs(120);

/// The connections to QEMU's monitor and to the guest's event port.
pub(super) struct Connected {
    pub(super) monitor: qmp::Client,
    pub(super) events: GuestEvents,
}

/// Connects to QEMU's monitor and to the guest's event port. The guest cannot have sent an event
/// yet.
pub(super) async fn connect(
    layout: &StateLayout,
    child: &mut Child,
) -> Result<Connected, SupervisorError> {
    let deadline = Instant::now() + SOCKET_DEADLINE;
    let events = loop {
        match GuestEvents::connect(&layout.event_socket()).await {
            Ok(events) => break events,
            Err(_) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            status = child.wait() => return Err(SupervisorError::QemuEnded(status?)),
            () = sleep(SOCKET_RETRY) => {}
        }
    };
    loop {
        match qmp::Client::connect(&layout.qmp_socket()).await {
            Ok(monitor) => return Ok(Connected { monitor, events }),
            Err(QmpError::Connect(_)) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            status = child.wait() => return Err(SupervisorError::QemuEnded(status?)),
            () = sleep(SOCKET_RETRY) => {}
        }
    }
}
