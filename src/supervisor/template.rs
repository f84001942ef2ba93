//! Making a template: a guest is booted, made anonymous by its agent, paused
//! and written down.

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
use super::running::QUIT_GRACE;
use super::{SupervisorError, end_failed, files, last_words};
use crate::agent::AgentError;
use crate::plan::TemplatePlan;
use sandbox_host::files as host_files;
use sandbox_protocol::guest_event::GuestEvent;
use sandbox_qemu::{migration, overlay};

/// How long the guest may take for what it does before it is saved.
const QUIESCE_DEADLINE: Duration = Duration::from_secs(120);

/// A disk with less free than this is full: by so much, at most, guest and host
/// write at a time.
const FULL_BYTES: u64 = 16 << 20;

/// What making a template has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateStage {
    /// The guest boots.
    Booting,
    /// All of Debian has started; the guest forgets who it is.
    Quiescing,
    /// The guest is paused and written down.
    Saving,
    /// QEMU crashed, and the guest boots once more.
    Crashed,
}

/// How a template was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateTimes {
    /// From QEMU's start until all of Debian had started.
    pub boot: Duration,
    /// How long the paused guest took to be written down.
    pub save: Duration,
}

/// Makes the template of `plan` in its target's files. Whatever lies in the
/// layout's directory is of no use afterwards.
///
/// # Errors
/// When the guest does not boot, does not answer, or cannot be saved. No
/// process is left in any case.
pub(crate) async fn make(
    plan: &TemplatePlan,
    ready_timeout: Duration,
    mut tell: impl FnMut(TemplateStage),
) -> Result<TemplateTimes, SupervisorError> {
    let layout = &plan.layout;
    files::write_logs(layout)?;
    files::write_boot_files(layout, &plan.seed, &plan.image)?;
    host_files::create_private_directory(&layout.spare())?;
    let outcome = attempt(plan, ready_timeout, &mut tell).await;
    match outcome {
        Err(error) if error.is_crash() => {
            let words = last_words(&error, layout);
            tracing::warn!(%error, ?words, "booting once more");
            tell(TemplateStage::Crashed);
            files::clear_attempt(layout)?;
            host_files::remove_file_if_present(&plan.target.disk)?;
            attempt(plan, ready_timeout, &mut tell).await
        }
        _ => outcome,
    }
}

/// Boots and saves the guest. QEMU is gone afterwards.
async fn attempt(
    plan: &TemplatePlan,
    ready_timeout: Duration,
    tell: &mut impl FnMut(TemplateStage),
) -> Result<TemplateTimes, SupervisorError> {
    let started = Instant::now();
    tell(TemplateStage::Booting);
    // The store may be copied or moved, so its files name each other by relative paths.
    overlay::create_relocatable(&plan.target.disk, &plan.image.disk, plan.shape.disk.bytes())?;
    // QEMU keeps the modes of files that are there.
    host_files::write_private_volatile(&plan.target.ram, b"")?;
    host_files::write_private_volatile(&plan.target.state, b"")?;
    // Nobody answers on this network: what a template learns there would be
    // every sandbox's.
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
        made = boot_and_save(plan, &mut child, started + ready_timeout, tell) => made,
        _ = terminate.recv() => Err(SupervisorError::Interrupted),
        _ = interrupt.recv() => Err(SupervisorError::Interrupted),
    };
    match made {
        Ok((settled, save)) => Ok(TemplateTimes {
            boot: settled - started,
            save,
        }),
        Err(error) => {
            let error = end_failed(&mut child, error).await?;
            Err(told_of_full_disk(error, &plan.target.ram))
        }
    }
}

/// QEMU ends by SIGBUS when the file of the guest's memory cannot grow.
fn told_of_full_disk(error: SupervisorError, ram: &Path) -> SupervisorError {
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
    tell: &mut impl FnMut(TemplateStage),
) -> Result<(Instant, Duration), SupervisorError> {
    let Connected {
        mut monitor,
        mut events,
    } = connect(&plan.layout, child).await?;
    let agent = AgentLink::start(&plan.layout)?;
    reached(&mut events, child, deadline, GuestEvent::Settled).await?;
    let settled = Instant::now();
    tell(TemplateStage::Quiescing);
    match agent.ask(Request::Quiesce, QUIESCE_DEADLINE).await? {
        Response::Done => {}
        _ => return Err(AgentError::Unexpected.into()),
    }
    drop(agent);
    reached(&mut events, child, deadline, GuestEvent::Quiesced).await?;
    tell(TemplateStage::Saving);
    let paused = Instant::now();
    migration::save(&mut monitor, &plan.target.state).await?;
    let saved = paused.elapsed();
    // What the disk layer holds is complete once QEMU has ended.
    drop(monitor.execute(sandbox_qemu::qmp::command::Quit {}).await);
    if timeout(QUIT_GRACE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok((settled, saved))
}

/// Waits until the guest tells this event.
async fn reached(
    events: &mut GuestEvents,
    child: &mut Child,
    deadline: Instant,
    wanted: GuestEvent,
) -> Result<(), SupervisorError> {
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) if event == wanted => return Ok(()),
                Some(GuestEvent::Failed { reason }) => return Err(SupervisorError::Guest { reason }),
                Some(_) => {}
                None => return Err(SupervisorError::QemuEnded(child.wait().await?)),
            },
            status = child.wait() => return Err(SupervisorError::QemuEnded(status?)),
            () = sleep_until(deadline) => return Err(SupervisorError::NotSaved { missed: wanted }),
        }
    }
}
