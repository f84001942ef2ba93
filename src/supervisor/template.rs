//! The build of a template: boots a guest, lets its agent remove the guest's identity, pauses it
//! and saves it.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use sandbox_protocol::agent::message::{Request, Response};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

use super::agent_link::AgentLink;
use super::connect::{Connected, connect};
use super::guest_events::GuestEvents;
use super::launch::{self, Launch};
use super::running::{QUIT_GRACE, handle_monitor_event};
use super::{SupervisorError, end_failed, files, log_lines};
use crate::agent::AgentError;
use crate::plan::TemplatePlan;
use sandbox_host::files as host_files;
use sandbox_protocol::guest_event::GuestEvent;
use sandbox_qemu::{migration, overlay, qmp};

/// How long the guest may take to quiesce before it is saved.
const QUIESCE_DEADLINE: Duration = Duration::from_secs(120);

/// A host disk with less free space than this counts as full, in bytes. Guest and host write at
/// most this much at a time.
const FULL_BYTES: u64 = 16 << 20;

/// A stage of a template build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateStage {
    /// The guest boots.
    Booting,
    /// Debian has started completely, and the guest removes its identity.
    Quiescing,
    /// The guest is paused, and QEMU saves it.
    Saving,
    /// QEMU crashed, and the guest boots again.
    Crashed,
    /// The template is stored. A trial start records the pages that starts touch.
    Recording,
}

/// The durations of a template build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateTimes {
    /// The time from QEMU's start until Debian had started completely.
    pub boot: Duration,
    /// The time that saving the paused guest took.
    pub save: Duration,
}

/// Builds the template of `plan` in its target files. The files in the layout's directory are
/// temporary.
///
/// # Errors
/// Fails if the guest does not boot, does not answer, or cannot be saved. QEMU has ended in any
/// case.
pub(crate) async fn make(
    plan: &TemplatePlan,
    ready_timeout: Duration,
    mut listener: impl FnMut(TemplateStage),
) -> Result<TemplateTimes, SupervisorError> {
    let layout = &plan.layout;
    files::write_logs(layout)?;
    files::write_boot_files(layout, &plan.seed, &plan.image)?;
    host_files::create_private_directory(&layout.spare())?;
    let outcome = attempt(plan, ready_timeout, &mut listener).await;
    match outcome {
        Err(error) if error.is_crash() => {
            let words = log_lines(&error, layout);
            tracing::warn!(%error, ?words, "QEMU crashed; booting again");
            listener(TemplateStage::Crashed);
            files::clear_attempt(layout)?;
            host_files::remove_file_if_present(&plan.target.disk)?;
            attempt(plan, ready_timeout, &mut listener).await
        }
        _ => outcome,
    }
}

/// Boots and saves the guest. QEMU has ended afterwards.
async fn attempt(
    plan: &TemplatePlan,
    ready_timeout: Duration,
    listener: &mut impl FnMut(TemplateStage),
) -> Result<TemplateTimes, SupervisorError> {
    let started = Instant::now();
    listener(TemplateStage::Booting);
    // The store may be copied or moved, so its files name each other by relative paths.
    overlay::create_relocatable(&plan.target.disk, &plan.image.disk, plan.shape.disk.bytes())?;
    // QEMU keeps the modes of existing files.
    host_files::write_private_volatile(&plan.target.ram, b"")?;
    host_files::write_private_volatile(&plan.target.state, b"")?;
    // No gateway answers on this network. Otherwise all sandboxes of the template would share the
    // data that the guest receives there.
    let (guests_end, _silent_end) = UnixStream::pair()?;
    let mut child = launch::launch(&Launch {
        argv: &plan.argv,
        log: &plan.layout.qemu_log(),
        network: guests_end.as_fd(),
        filter: None,
    })?
    .child;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let made = tokio::select! {
        made = boot_and_save(plan, &mut child, started + ready_timeout, listener) => made,
        _ = terminate.recv() => Err(SupervisorError::Interrupted),
        _ = interrupt.recv() => Err(SupervisorError::Interrupted),
    };
    match made {
        Ok((settled, save)) => Ok(TemplateTimes {
            boot: settled - started,
            save,
        }),
        Err(error) => {
            let error = end_failed(&mut child, error, plan.accelerator, &plan.layout).await?;
            Err(with_full_disk(error, &plan.target.ram))
        }
    }
}

/// Replaces the error if the host's disk is full. SIGBUS ends QEMU if the file of the guest's
/// memory cannot grow.
fn with_full_disk(error: SupervisorError, ram: &Path) -> SupervisorError {
    let ended_by_bus_error = matches!(
        &error,
        SupervisorError::QemuEnded(status) if status.signal() == Some(Signal::SIGBUS as i32)
    );
    let is_full = || host_files::free_bytes(ram).is_ok_and(|free| free < FULL_BYTES);
    if ended_by_bus_error && is_full() {
        return SupervisorError::HostDiskFull { path: ram.into() };
    }
    error
}

async fn boot_and_save(
    plan: &TemplatePlan,
    child: &mut Child,
    deadline: Instant,
    listener: &mut impl FnMut(TemplateStage),
) -> Result<(Instant, Duration), SupervisorError> {
    let Connected {
        mut monitor,
        mut events,
    } = connect(&plan.layout, child).await?;
    let agent = AgentLink::start(&plan.layout)?;
    let mut machine = Machine {
        monitor: &mut monitor,
        child,
        disk: &plan.target.disk,
    };
    machine
        .wait_for(&mut events, deadline, GuestEvent::Settled)
        .await?;
    let settled = Instant::now();
    listener(TemplateStage::Quiescing);
    match agent.ask(Request::Quiesce, QUIESCE_DEADLINE).await? {
        Response::Done => {}
        _ => return Err(AgentError::Unexpected.into()),
    }
    drop(agent);
    machine
        .wait_for(&mut events, deadline, GuestEvent::Quiesced)
        .await?;
    listener(TemplateStage::Saving);
    let paused = Instant::now();
    migration::save(&mut monitor, &plan.target.state).await?;
    let saved = paused.elapsed();
    // QEMU completes the disk layer when it ends.
    drop(monitor.execute(qmp::command::Quit {}).await);
    if timeout(QUIT_GRACE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok((settled, saved))
}

/// The QEMU of a template build.
struct Machine<'a> {
    monitor: &'a mut qmp::Client,
    child: &'a mut Child,
    /// The guest's disk.
    disk: &'a Path,
}

impl Machine<'_> {
    /// Waits until the guest reports this event.
    async fn wait_for(
        &mut self,
        events: &mut GuestEvents,
        deadline: Instant,
        wanted: GuestEvent,
    ) -> Result<(), SupervisorError> {
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) if event == wanted => return Ok(()),
                    Some(GuestEvent::Failed { reason }) => {
                        return Err(SupervisorError::Guest { reason });
                    }
                    Some(_) => {}
                    None => return Err(SupervisorError::QemuEnded(self.child.wait().await?)),
                },
                Some(event) = self.monitor.events.recv() => {
                    handle_monitor_event(self.monitor, &event, self.disk).await?;
                }
                status = self.child.wait() => return Err(SupervisorError::QemuEnded(status?)),
                () = sleep_until(deadline) => {
                    return Err(SupervisorError::NotSaved { missed: wanted });
                }
            }
        }
    }
}
