//! The process that owns one running sandbox: QEMU's parent, QMP's client,
//! the one that tells what happens and that cleans up.
//!
//! It holds the lock of the state directory from its parent's hands to its
//! own end. Whatever ends it by force ends QEMU too (a parent-death signal);
//! what then lies around is swept by whoever finds the lock free.

mod agent_link;
mod connect;
mod event_log;
mod files;
mod guest_events;
mod launch;
mod log_limit;
mod personalize;
mod running;
mod server;
mod signals;
mod template;
mod watch;

pub(crate) use self::template::make as make_template;
pub use self::template::{TemplateStage, TemplateTimes};

use sandbox_host::hint::Hint;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::event_log::EventLog;
use self::running::QUIT_GRACE;
use super::{StartPlan, StateLayout, registry};
use crate::agent::AgentError;
use crate::console::last_lines;
use sandbox_host::lock::DirectoryLock;
use sandbox_protocol::{EndReason, Event, Failure};
use sandbox_qemu::qmp::QmpError;

/// Why the supervisor ended a sandbox that had not been told to end.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A file of the state could not be made.
    #[error(transparent)]
    File(#[from] sandbox_host::files::FileError),
    /// The record could not be written.
    #[error(transparent)]
    Record(#[from] sandbox_protocol::RecordError),
    /// The disk overlay could not be made.
    #[error(transparent)]
    Overlay(#[from] sandbox_qemu::overlay::OverlayError),
    /// Keys or the alias could not be written.
    #[error(transparent)]
    Ssh(#[from] crate::ssh::KeyError),
    /// QEMU could not be started.
    #[error("could not run `{program}`")]
    Spawn {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// QEMU ended by itself.
    #[error("QEMU ended unexpectedly: {0}")]
    QemuEnded(std::process::ExitStatus),
    /// QEMU's monitor could not be used.
    #[error(transparent)]
    Monitor(#[from] sandbox_qemu::qmp::QmpError),
    /// The guest's network could not be made.
    #[error(transparent)]
    Gateway(#[from] sandbox_gateway::gateway::GatewayError),
    /// The guest says that it cannot become ready.
    #[error("the guest could not start: {reason}")]
    Guest {
        /// The guest's words, cleaned.
        reason: String,
    },
    /// The deadline passed.
    #[error("the guest was not ready within {} s; it was last seen {stage}", timeout.as_secs())]
    NotReady {
        /// The deadline.
        timeout: std::time::Duration,
        /// What had been reached.
        stage: &'static str,
    },
    /// The guest that was to become a template did not get that far.
    #[error("the guest to be saved did not come to the event `{missed:?}` in time")]
    NotSaved {
        /// What was waited for.
        missed: sandbox_protocol::guest_event::GuestEvent,
    },
    /// A signal ended it.
    #[error("interrupted")]
    Interrupted,
    /// The guest's state could not be saved or restored.
    #[error(transparent)]
    Migration(#[from] sandbox_qemu::migration::MigrationError),
    /// The filter that protects templates could not be made.
    #[error(transparent)]
    Filter(#[from] sandbox_qemu::discard_filter::FilterError),
    /// The guest agent did not do what it was asked.
    #[error(transparent)]
    Agent(#[from] crate::agent::AgentError),
    /// A file that the guest writes to cannot grow.
    #[error("the host's disk is full: `{}` cannot grow", path.display())]
    HostDiskFull {
        /// The guest's disk or its memory.
        path: std::path::PathBuf,
    },
    /// The host failed at something basic.
    #[error("the supervisor cannot go on")]
    System(#[from] std::io::Error),
}

impl SupervisorError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Overlay(error) => error.hint(),
            Self::Ssh(error) => error.hint(),
            Self::Spawn { .. } | Self::QemuEnded(_) => {
                Some("`sandbox doctor` checks QEMU and this machine".into())
            }
            Self::NotReady { .. } => Some(
                "give it more time with `--ready-timeout 10m`, or more memory with `--memory 4G`"
                    .into(),
            ),
            Self::HostDiskFull { .. } => Some(
                "free space there, or set `SANDBOX_HOME` to a directory on a larger disk".into(),
            ),
            Self::Agent(error) => error.hint(),
            Self::NotSaved { .. } | Self::Interrupted | Self::Migration(_) | Self::Filter(_) => {
                None
            }
            Self::Guest { .. } => Some("see the lines of its console above".into()),
            Self::Gateway(error) => error.hint(),
            Self::Monitor(_) | Self::System(_) => None,
        }
    }
}

/// Signals that a program brings upon itself by its own faults. Not among them are
/// SIGSYS, since nobody gets a second try at QEMU's filter of system calls, and
/// SIGBUS, which is what becomes of memory in a file that finds no room on the disk.
const FAULTS: [Signal; 5] = [
    Signal::SIGABRT,
    Signal::SIGSEGV,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
];

impl SupervisorError {
    /// Whether QEMU crashed. Emulators do, rarely, by races between the threads of
    /// their processors, and a second attempt goes well.
    fn is_crash(&self) -> bool {
        let Self::QemuEnded(status) = self else {
            return false;
        };
        FAULTS
            .map(|fault| Some(fault as i32))
            .contains(&status.signal())
    }

    /// Whether another way to start the same sandbox may succeed: it is QEMU or
    /// the restored guest that failed, not the host.
    fn may_be_the_templates_fault(&self) -> bool {
        match self {
            Self::QemuEnded(_)
            | Self::Monitor(_)
            | Self::Guest { .. }
            | Self::NotReady { .. }
            | Self::Overlay(_)
            | Self::Spawn { .. }
            | Self::Migration(_)
            | Self::Filter(_)
            | Self::Agent(_) => true,
            Self::File(_)
            | Self::Record(_)
            | Self::Ssh(_)
            | Self::NotSaved { .. }
            | Self::Interrupted
            | Self::HostDiskFull { .. }
            | Self::Gateway(_)
            | Self::System(_) => false,
        }
    }
}

/// How a supervised sandbox came to its end.
enum Outcome {
    /// In an orderly way.
    Ended(EndReason),
    /// By a failure.
    Failed(SupervisorError),
}

/// What a supervisor runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A process of its own: its signals are the sandbox's.
    Process,
    /// A thread of a program that uses the library: signals are that program's.
    Thread,
}

/// Owns the sandbox of `plan` until it ends. `lock` is held and `listener`
/// listens already, so that no client ever has to wait for either.
pub(crate) async fn run(
    plan: StartPlan,
    lock: DirectoryLock,
    listener: UnixListener,
    owner: Owner,
) {
    let event_log = EventLog::default();
    let (stop, stop_requests) = mpsc::channel(16);
    let (gateway, questions) = mpsc::channel(16);
    let recipients = server::Recipients { stop, gateway };
    let server = match server::start(listener, event_log.clone(), recipients, plan.spec.lifetime) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "the control socket is unusable");
            registry::collect(&plan.layout, lock);
            return;
        }
    };
    let outcome = match watch::supervise(&plan, owner, &event_log, stop_requests, questions).await {
        Ok(reason) => Outcome::Ended(reason),
        Err(error) => Outcome::Failed(error),
    };
    let reason = match outcome {
        Outcome::Ended(reason) => reason,
        Outcome::Failed(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the sandbox failed"
            );
            event_log.append(Event::Failed(failure(&plan, &error)));
            EndReason::Failed
        }
    };
    // The lock goes last: until then nobody takes the half-removed state for
    // anything else.
    registry::collect(&plan.layout, lock);
    event_log.append(Event::Ended { reason });
    server.finish().await;
}

/// How many lines of a log a failure shows.
const SHOWN_LINES: usize = 15;

/// What was said last before `error`: by QEMU, if it is what failed, and on the
/// guest's console otherwise.
pub(super) fn last_words(error: &SupervisorError, layout: &StateLayout) -> Vec<String> {
    let log = match error {
        SupervisorError::QemuEnded(_) | SupervisorError::Spawn { .. } => layout.qemu_log(),
        _ => layout.console_log(),
    };
    last_lines(&log, SHOWN_LINES).unwrap_or_default()
}

fn failure(plan: &StartPlan, error: &SupervisorError) -> Failure {
    Failure {
        last_lines: last_words(error, &plan.layout),
        ..Failure::from_error(error, error.hint())
    }
}

/// Ends a QEMU that an attempt failed with, and gives the error that says most: a
/// monitor, an agent or a port that closes is a QEMU that ends, and its status and
/// its own words say more.
async fn end_failed(
    child: &mut Child,
    error: SupervisorError,
) -> Result<SupervisorError, std::io::Error> {
    let is_lost = matches!(
        error,
        SupervisorError::Monitor(QmpError::Closed { .. })
            | SupervisorError::Agent(AgentError::Lost(_))
    );
    if is_lost && let Ok(status) = timeout(QUIT_GRACE, child.wait()).await {
        return Ok(SupervisorError::QemuEnded(status?));
    }
    child.kill().await?;
    Ok(error)
}
