//! The wait for a started sandbox to become ready.

use std::path::PathBuf;
use std::pin::Pin;
use std::thread::JoinHandle;
use std::time::Duration;

use sandbox_protocol::control::{Connection, Request};
use sandbox_protocol::{Event as SandboxEvent, Record};
use sandbox_spec::SandboxName;

use crate::console::last_lines;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Stage};
use crate::host::Host;
use crate::state::StateLayout;
use crate::{Sandbox, registry};

/// The number of lines of a dead supervisor's log in an error.
const SHOWN_LINES: usize = 10;

/// A start in progress, by this program or another one.
pub(crate) struct Joined {
    pub(crate) host: Host,
    pub(crate) name: SandboxName,
    pub(crate) layout: StateLayout,
    pub(crate) connection: Connection,
    pub(crate) thread: Option<JoinHandle<()>>,
    pub(crate) workspace: Option<PathBuf>,
    /// Whether this program started the sandbox.
    pub(crate) is_started: bool,
}

/// Waits until the sandbox is ready. Returns `None` if the wait was cancelled. It then undoes a
/// start of this program.
pub(crate) async fn wait_for_ready(
    mut joined: Joined,
    listener: &mut (dyn FnMut(&Event) + Send),
    mut cancel: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Option<Sandbox>, Error> {
    // Reports stages of a joined sandbox only if it is not ready yet.
    let is_news = joined.is_started
        || !matches!(Record::read(&joined.layout.record()), Ok(Some(record)) if record.ready);
    let mut has_booted = false;
    loop {
        let event = tokio::select! {
            event = joined.connection.next_event() => event,
            () = cancel.as_mut() => {
                undo(&mut joined, listener).await;
                return Ok(None);
            }
        };
        let Ok(Some(event)) = event else {
            return Err(lost(&joined));
        };
        let stage = match event.event {
            SandboxEvent::Ready { ssh_port, agent } => {
                listener(&Event::Ready);
                return Ok(Some(Sandbox::new(joined, ssh_port, agent, has_booted)));
            }
            SandboxEvent::Failed(failure) => {
                // Reports the failure once the sandbox's state is removed.
                until_ended(&mut joined.connection).await;
                return Err(failure.into());
            }
            SandboxEvent::Ended { .. } => {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    format!(
                        "the sandbox `{}` was stopped before it was ready",
                        joined.name
                    ),
                    None,
                ));
            }
            SandboxEvent::Refused { message } => {
                return Err(Error::new(
                    ErrorKind::Disconnected,
                    message,
                    Some(SandboxEvent::refusal_hint(Some(&joined.name))),
                ));
            }
            SandboxEvent::Warning { message } => {
                // Only the program that started the sandbox reports its warnings.
                if joined.is_started {
                    listener(&Event::Warning { message });
                }
                continue;
            }
            SandboxEvent::AliasNotIncluded => {
                if joined.is_started {
                    listener(&Event::AliasNotIncluded);
                }
                continue;
            }
            SandboxEvent::Preparing => Stage::PreparingDisk,
            SandboxEvent::Booting { accelerator } => {
                has_booted = true;
                Stage::Booting { accelerator }
            }
            SandboxEvent::Restoring => Stage::Restoring,
            SandboxEvent::KernelUp => Stage::KernelUp,
            SandboxEvent::SystemdStarting => Stage::SystemdStarting,
            SandboxEvent::Waiting { reason } => Stage::Waiting { reason },
            _ => continue,
        };
        if is_news {
            listener(&Event::Stage(stage));
        }
    }
}

/// Ends the sandbox, if this program started it.
async fn undo(joined: &mut Joined, listener: &mut (dyn FnMut(&Event) + Send)) {
    if !joined.is_started {
        return;
    }
    listener(&Event::Stage(Stage::Stopping));
    let request = Request::stop(Duration::ZERO);
    if joined.connection.ask(request).await.is_ok() {
        until_ended(&mut joined.connection).await;
    }
    if let Some(thread) = joined.thread.take() {
        crate::sandbox::join(thread).await;
    }
}

/// Waits until the sandbox has ended and its state is removed.
pub(crate) async fn until_ended(connection: &mut Connection) {
    while let Ok(Some(event)) = connection.next_event().await {
        if matches!(event.event, SandboxEvent::Ended { .. }) {
            break;
        }
    }
}

/// Returns the error for a supervisor that closed the connection without a last event.
fn lost(joined: &Joined) -> Error {
    if !joined.is_started && registry::is_owned(&joined.layout) {
        return Error::new(
            ErrorKind::Disconnected,
            format!(
                "the supervisor of `{}` closed the connection without an answer",
                joined.name
            ),
            Some(SandboxEvent::refusal_hint(Some(&joined.name))),
        );
    }
    let log = joined.layout.supervisor_log();
    let last_lines = last_lines(&log, SHOWN_LINES).unwrap_or_default();
    if joined.is_started {
        registry::collect_if_dead(&joined.layout);
    }
    Error::new(
        ErrorKind::Start,
        format!("the supervisor of `{}` was killed", joined.name),
        Some(
            sandbox_host::hint::Hint::text("try again, or check this machine with ")
                .command("doctor"),
        ),
    )
    .with_log(last_lines)
}
