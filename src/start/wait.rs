//! Following a start until the sandbox is ready.

use std::path::PathBuf;
use std::pin::Pin;
use std::thread::JoinHandle;
use std::time::Duration;

use sandbox_protocol::control::{Connection, Request};
use sandbox_protocol::{Event as Told, Record};
use sandbox_spec::SandboxName;

use crate::console::last_lines;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Stage};
use crate::host::Host;
use crate::state::StateLayout;
use crate::{Sandbox, registry};

/// How many lines of a dead supervisor's log an error shows.
const SHOWN_LINES: usize = 10;

/// A start that is under way, by this program or another.
pub(crate) struct Joined {
    pub(crate) host: Host,
    pub(crate) name: SandboxName,
    pub(crate) layout: StateLayout,
    pub(crate) connection: Connection,
    pub(crate) thread: Option<JoinHandle<()>>,
    pub(crate) workspace: Option<PathBuf>,
    /// Whether this program began it.
    pub(crate) is_started: bool,
}

/// Waits until the sandbox is ready; `None` if that was cancelled. A start of this program's is then
/// undone.
pub(crate) async fn wait_for_ready(
    mut joined: Joined,
    listener: &mut (dyn FnMut(&Event) + Send),
    mut cancel: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Option<Sandbox>, Error> {
    // What happened before a sandbox was ready is old news once it is.
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
            Told::Ready { ssh_port, agent } => {
                listener(&Event::Ready);
                return Ok(Some(Sandbox::new(joined, ssh_port, agent, has_booted)));
            }
            Told::Failed(failure) => {
                // A failed start is reported when nothing is left of it.
                until_ended(&mut joined.connection).await;
                return Err(failure.into());
            }
            Told::Ended { .. } => {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    format!(
                        "the sandbox `{}` was stopped before it was ready",
                        joined.name
                    ),
                    None,
                ));
            }
            Told::Refused { message } => {
                return Err(Error::new(
                    ErrorKind::Disconnected,
                    message,
                    Some(Told::refusal_hint()),
                ));
            }
            Told::Warning { message } => {
                // The program that began the start hears it.
                if joined.is_started {
                    listener(&Event::Warning { message });
                }
                continue;
            }
            Told::AliasNotIncluded => {
                if joined.is_started {
                    listener(&Event::AliasNotIncluded);
                }
                continue;
            }
            Told::Preparing => Stage::PreparingDisk,
            Told::Booting { accelerator } => {
                has_booted = true;
                Stage::Booting { accelerator }
            }
            Told::Restoring => Stage::Restoring,
            Told::KernelUp => Stage::KernelUp,
            Told::SystemdStarting => Stage::SystemdStarting,
            Told::Waiting { reason } => Stage::Waiting { reason },
            _ => continue,
        };
        if is_news {
            listener(&Event::Stage(stage));
        }
    }
}

/// Takes a start down again, if this program began it.
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

/// Waits until nothing is left of a sandbox.
pub(crate) async fn until_ended(connection: &mut Connection) {
    while let Ok(Some(event)) = connection.next_event().await {
        if matches!(event.event, Told::Ended { .. }) {
            break;
        }
    }
}

/// The supervisor is gone without a word.
fn lost(joined: &Joined) -> Error {
    let log = joined.layout.supervisor_log();
    let last_lines = last_lines(&log, SHOWN_LINES).unwrap_or_default();
    if joined.is_started {
        registry::collect_if_dead(&joined.layout);
    }
    Error::new(
        ErrorKind::Start,
        format!("the supervisor of `{}` was killed", joined.name),
        Some(
            sandbox_host::hint::Hint::text("try again; ")
                .command("doctor")
                .then(" checks this machine"),
        ),
    )
    .with_log(last_lines)
}
