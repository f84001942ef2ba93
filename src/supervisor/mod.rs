//! The supervisor, which owns one running sandbox.
//!
//! It is QEMU's parent and the client of QEMU's monitor. It reports events, and removes the
//! sandbox's state at the end. It holds the lock of the state directory from its start to its end.
//! A forced end of the supervisor also ends QEMU, by a parent-death signal. The next process that
//! finds the lock free then removes the state.

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
use crate::console::{last_lines, lines_from};
use sandbox_host::lock::DirectoryLock;
use sandbox_protocol::{EndReason, Event, Failure};
use sandbox_qemu::accelerator::{AcceleratorError, probe_kvm};
use sandbox_qemu::qmp::QmpError;
use sandbox_spec::Accelerator;

/// A failure that ended a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A file of the state could not be created.
    #[error(transparent)]
    File(#[from] sandbox_host::files::FileError),
    /// The record could not be written.
    #[error(transparent)]
    Record(#[from] sandbox_protocol::RecordError),
    /// The disk overlay could not be created.
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
    /// QEMU ended without a request.
    #[error("QEMU ended unexpectedly: {0}")]
    QemuEnded(std::process::ExitStatus),
    /// KVM stopped working after it was chosen.
    #[error(transparent)]
    Accelerator(#[from] AcceleratorError),
    /// The accelerator could not execute the guest's code.
    #[error("QEMU could not run the guest: internal error of the accelerator")]
    InternalError,
    /// The host gave QEMU no memory for the guest.
    #[error("QEMU got no memory for the guest: {0}")]
    NoMemory(std::process::ExitStatus),
    /// QEMU's monitor could not be used.
    #[error(transparent)]
    Monitor(#[from] sandbox_qemu::qmp::QmpError),
    /// The guest's network could not be started.
    #[error(transparent)]
    Gateway(#[from] sandbox_gateway::gateway::GatewayError),
    /// The guest reported that it cannot become ready.
    #[error("the guest could not start: {reason}")]
    Guest {
        /// The guest's reason, without control characters.
        reason: String,
    },
    /// The guest was not ready at the deadline.
    #[error("the guest was not ready within {} s; it was last seen {stage}", timeout.as_secs())]
    NotReady {
        /// The deadline.
        timeout: std::time::Duration,
        /// The stage that the guest had reached.
        stage: &'static str,
    },
    /// The guest for a template did not report an event in time.
    #[error("the guest for the template did not report `{missed:?}` in time")]
    NotSaved {
        /// The event.
        missed: sandbox_protocol::guest_event::GuestEvent,
    },
    /// A signal ended the supervisor.
    #[error("interrupted")]
    Interrupted,
    /// The guest's state could not be saved or restored.
    #[error(transparent)]
    Migration(#[from] sandbox_qemu::migration::MigrationError),
    /// The filter that protects templates could not be created.
    #[error(transparent)]
    Filter(#[from] sandbox_qemu::discard_filter::FilterError),
    /// A request to the guest agent failed.
    #[error(transparent)]
    Agent(#[from] crate::agent::AgentError),
    /// A file that the guest writes to cannot grow.
    #[error("the host's disk is full: `{}` cannot grow", path.display())]
    HostDiskFull {
        /// The guest's disk or its memory.
        path: std::path::PathBuf,
    },
    /// A system call failed.
    #[error("a system call of the supervisor failed")]
    System(#[from] std::io::Error),
}

impl SupervisorError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::File(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Overlay(error) => error.hint(),
            Self::Ssh(error) => error.hint(),
            Self::Accelerator(error) => error.hint(),
            Self::NoMemory(_) => Some(
                Hint::text("stop other programs, or give the guest less memory with ")
                    .setting("memory", "1G"),
            ),
            Self::QemuEnded(status) if status.signal() == Some(Signal::SIGKILL as i32) => Some(
                Hint::text(
                    "look for lack of memory with `sudo dmesg | grep -i oom`, and give less with ",
                )
                .setting("memory", "1G"),
            ),
            Self::Spawn { .. } | Self::QemuEnded(_) | Self::InternalError => {
                Some(Hint::text("check QEMU and this machine with ").command("doctor"))
            }
            Self::NotReady { .. } => Some(
                Hint::text("give it more time with ")
                    .setting("ready-timeout", "10m")
                    .then(", or more memory with ")
                    .setting("memory", "4G"),
            ),
            Self::HostDiskFull { .. } => Some(
                "free space there, or set `SANDBOX_HOME` to a directory on a larger disk".into(),
            ),
            Self::Agent(error) => error.hint(),
            Self::NotSaved { .. } | Self::Interrupted | Self::Migration(_) | Self::Filter(_) => {
                None
            }
            Self::Guest { .. } => Some("read the lines of its console above".into()),
            Self::Gateway(error) => error.hint(),
            Self::Monitor(_) | Self::System(_) => None,
        }
    }
}

/// Signals that a program raises by its own fault.
///
/// SIGSYS is not among them, so that a violation of QEMU's system call filter gets no second
/// attempt. Neither is SIGBUS, which reports that memory in a file cannot grow on a full disk.
const FAULTS: [Signal; 5] = [
    Signal::SIGABRT,
    Signal::SIGSEGV,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
];

impl SupervisorError {
    /// Returns whether QEMU crashed, or KVM failed. Emulators rarely crash by races between their
    /// processor threads, and a second attempt then succeeds.
    fn is_crash(&self) -> bool {
        match self {
            Self::InternalError => true,
            Self::QemuEnded(status) => FAULTS
                .map(|fault| Some(fault as i32))
                .contains(&status.signal()),
            _ => false,
        }
    }

    /// Returns whether booting may succeed where restoring failed: QEMU or the restored guest
    /// failed, not the host.
    fn may_be_the_templates_fault(&self) -> bool {
        match self {
            Self::QemuEnded(_)
            | Self::InternalError
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
            | Self::Accelerator(_)
            | Self::NoMemory(_)
            | Self::NotSaved { .. }
            | Self::Interrupted
            | Self::HostDiskFull { .. }
            | Self::Gateway(_)
            | Self::System(_) => false,
        }
    }
}

/// The end of a supervised sandbox.
enum Outcome {
    /// The sandbox ended without an error.
    Ended(EndReason),
    /// The sandbox failed.
    Failed(SupervisorError),
}

/// Where a supervisor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// In its own process, whose signals end the sandbox.
    Process,
    /// In a thread of a program that uses the library and handles its own signals.
    Thread,
}

/// Owns the sandbox of `plan` until it ends. The caller has locked `lock` and bound `listener`, so
/// no client waits for them.
pub(crate) async fn run(
    plan: StartPlan,
    lock: DirectoryLock,
    listener: UnixListener,
    owner: Owner,
) {
    let event_log = EventLog::default();
    let (stop, stop_requests) = mpsc::channel(16);
    let (gateway, gateway_requests) = mpsc::channel(16);
    let recipients = server::Recipients { stop, gateway };
    let server = match server::start(listener, event_log.clone(), recipients, plan.spec.lifetime) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "could not use the control socket");
            registry::collect(&plan.layout, lock);
            return;
        }
    };
    let outcome =
        match watch::supervise(&plan, owner, &event_log, stop_requests, gateway_requests).await {
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
    // `collect` releases the lock last, so no other process uses the half-removed state.
    registry::collect(&plan.layout, lock);
    event_log.append(Event::Ended { reason });
    server.finish().await;
}

/// The number of log lines in a failure.
const SHOWN_LINES: usize = 15;

/// Returns the log lines that explain `error`: the last ones of QEMU if QEMU failed, the last ones of
/// the guest's console otherwise. QEMU reports an internal error first and then lists registers, so
/// those lines are its first ones.
pub(super) fn log_lines(error: &SupervisorError, layout: &StateLayout) -> Vec<String> {
    let log = match error {
        SupervisorError::InternalError => {
            return lines_from(&layout.qemu_log(), "KVM", SHOWN_LINES).unwrap_or_default();
        }
        SupervisorError::QemuEnded(_)
        | SupervisorError::Spawn { .. }
        | SupervisorError::NoMemory(_)
        | SupervisorError::Accelerator(_) => layout.qemu_log(),
        _ => layout.console_log(),
    };
    last_lines(&log, SHOWN_LINES).unwrap_or_default()
}

fn failure(plan: &StartPlan, error: &SupervisorError) -> Failure {
    Failure {
        last_lines: log_lines(error, &plan.layout),
        ..Failure::from_error(error, error.hint())
    }
}

/// Ends the QEMU of a failed attempt and returns the most precise error.
///
/// If the monitor or the agent's connection closed, QEMU has probably ended, and its exit status
/// says more. If QEMU refused to start, the host may lack memory, or KVM may have stopped working
/// since it was chosen.
async fn end_failed(
    child: &mut Child,
    error: SupervisorError,
    accelerator: Accelerator,
    layout: &StateLayout,
) -> Result<SupervisorError, std::io::Error> {
    let error = end(child, error).await?;
    let SupervisorError::QemuEnded(status) = error else {
        return Ok(error);
    };
    if status.code().is_none() {
        return Ok(error);
    }
    let lines = log_lines(&error, layout);
    if lines.iter().any(|line| line.contains(NO_MEMORY)) {
        return Ok(SupervisorError::NoMemory(status));
    }
    if accelerator == Accelerator::Kvm {
        let verdict = probe_kvm();
        if !verdict.is_usable() {
            return Ok(AcceleratorError::KvmUnusable { verdict }.into());
        }
    }
    Ok(error)
}

/// The text of ENOMEM (errno(3)), which QEMU adds to its messages.
const NO_MEMORY: &str = "Cannot allocate memory";

async fn end(child: &mut Child, error: SupervisorError) -> Result<SupervisorError, std::io::Error> {
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
