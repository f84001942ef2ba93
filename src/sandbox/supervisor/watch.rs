//! From the first file to the last wait: what a supervisor does while its
//! sandbox lives.

use std::pin::Pin;
use std::time::Duration;

use agent_protocol::message::Response;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};

use super::agent_link::AgentLink;
use super::connect::{Connected, connect};
use super::guest_events::GuestEvents;
use super::hub::Hub;
use super::launch::{self, Launch, Launched};
use super::running::{QUIT_GRACE, Running};
use super::server::StopRequest;
use super::{SupervisorError, awaken, files, log_limit};
use crate::agent::AgentError;
use crate::guest::event::GuestEvent;
use crate::host::process::ProcessIdentity;
use crate::qemu::discard_filter::DiscardFilter;
use crate::qemu::qmp::QmpError;
use crate::sandbox::{EndReason, Event, Record, StartPlan, WarmStart};

/// How long a restored guest may take before it says something; a healthy one
/// takes a fraction of a second, many of them on a busy machine some seconds.
const RESTORE_DEADLINE: Duration = Duration::from_secs(60);

/// How often the console's log is measured.
const LOG_CHECK: Duration = Duration::from_secs(1);

/// Starts the sandbox and waits for its end: by restoring the template, if
/// the plan has one, and by booting if that fails.
pub(super) async fn supervise(
    plan: &StartPlan,
    hub: &Hub,
    mut stop: mpsc::Receiver<StopRequest>,
) -> Result<EndReason, SupervisorError> {
    let mut deadline = Instant::now() + plan.spec.ready_timeout;
    hub.tell(Event::Preparing);
    let mut record = new_record(plan)?;
    record.write(&plan.layout.record())?;
    files::write_common(plan)?;
    if let Some(warm) = &plan.warm {
        let way = Way::Restore(warm);
        let outcome = attempt(plan, way, hub, &mut stop, &mut record, deadline).await;
        let Err(error) = outcome else { return outcome };
        if record.ready || !error.may_be_the_templates_fault() {
            return Err(error);
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            template = %warm.template.key,
            "the template cannot be restored and is discarded; booting instead"
        );
        if let Err(error) = warm.template.store.discard(&warm.template.key) {
            tracing::warn!(%error, "the template stays");
        }
        files::clear_attempt(&plan.layout)?;
        record.template = None;
        record.agent = None;
        deadline = Instant::now() + plan.spec.ready_timeout;
    }
    attempt(plan, Way::Boot, hub, &mut stop, &mut record, deadline).await
}

/// How the guest comes to run.
#[derive(Clone, Copy)]
enum Way<'a> {
    Boot,
    Restore(&'a WarmStart),
}

/// Starts QEMU and accompanies it to its end. QEMU is gone afterwards.
async fn attempt(
    plan: &StartPlan,
    way: Way<'_>,
    hub: &Hub,
    stop: &mut mpsc::Receiver<StopRequest>,
    record: &mut Record,
    deadline: Instant,
) -> Result<EndReason, SupervisorError> {
    let Launched { mut child, warning } = start_qemu(plan, way)?;
    hub.tell(match way {
        Way::Boot => Event::Booting {
            accelerator: plan.accelerator,
        },
        Way::Restore(_) => Event::Restoring,
    });
    if let Some(message) = warning {
        hub.tell(Event::Warning { message });
    }
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        record.qemu = ProcessIdentity::of(pid).ok();
    }
    let attended = attend(plan, way, hub, stop, record, &mut child, deadline).await;
    match attended {
        // A monitor that closes is a QEMU that ends: its status and its own
        // words say more.
        Err(SupervisorError::Monitor(QmpError::Closed { .. })) => {
            match timeout(QUIT_GRACE, child.wait()).await {
                Ok(status) => Err(SupervisorError::QemuEnded(status?)),
                Err(_) => {
                    child.kill().await?;
                    attended
                }
            }
        }
        Err(_) => {
            child.kill().await?;
            attended
        }
        Ok(_) => attended,
    }
}

/// Writes what QEMU opens, and starts it.
fn start_qemu(plan: &StartPlan, way: Way<'_>) -> Result<Launched, SupervisorError> {
    let (argv, filter) = match way {
        Way::Boot => {
            files::write_boot_files(&plan.layout, &plan.cold.seed, &plan.image)?;
            files::write_cold_disk(plan)?;
            (&plan.cold.argv, None)
        }
        Way::Restore(warm) => {
            files::write_warm_disk(&plan.layout, &warm.template)?;
            (&warm.argv, Some(DiscardFilter::new()?))
        }
    };
    launch::launch(&Launch {
        argv,
        log: &plan.layout.qemu_log(),
        filter,
    })
}

/// Accompanies a started QEMU to its end, or to a failure.
async fn attend(
    plan: &StartPlan,
    way: Way<'_>,
    hub: &Hub,
    stop: &mut mpsc::Receiver<StopRequest>,
    record: &mut Record,
    child: &mut Child,
    mut deadline: Instant,
) -> Result<EndReason, SupervisorError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let Connected { monitor, events } = connect(&plan.layout, child).await?;
    let mut sandbox = Running {
        plan,
        hub,
        child,
        monitor,
        agent: AgentLink::start(&plan.layout)?,
        agent_deadline: None,
        record,
        stage: match way {
            Way::Boot => "starting its kernel",
            Way::Restore(_) => "being restored",
        },
    };
    let starting = match way {
        Way::Boot => None,
        Way::Restore(warm) => {
            sandbox.resume(warm).await?;
            deadline = deadline.min(Instant::now() + RESTORE_DEADLINE);
            Some(awaken::awaken(sandbox.agent.asker(), plan, warm)?)
        }
    };
    tokio::pin!(starting);
    sandbox.announce_port().await?;
    let mut events = Some(events);
    let mut log_check = log_ticks();
    loop {
        tokio::select! {
            event = next_event(&mut events) => match event {
                Some(event) => {
                    if matches!(event, GuestEvent::Waiting { .. }) {
                        // It lives, and does something that takes its time.
                        deadline = deadline.max(Instant::now() + plan.spec.ready_timeout);
                    }
                    sandbox.handle(event)?;
                }
                // The port is closed; QEMU's end is seen elsewhere.
                None => events = None,
            },
            answer = answered(&mut starting) => sandbox.started(answer)?,
            Some(event) = sandbox.monitor.events.recv() => sandbox.handle_monitor(&event)?,
            status = sandbox.child.wait() => return sandbox.ended_by_itself(status?),
            Some(request) = stop.recv() => return sandbox.stop(request).await,
            _ = terminate.recv() => return sandbox.stop(StopRequest::Asked(QUIT_GRACE)).await,
            _ = interrupt.recv() => return sandbox.stop(StopRequest::Asked(QUIT_GRACE)).await,
            () = sandbox.agent.answered(), if sandbox.record.agent.is_none() && !sandbox.record.ready => {
                sandbox.agent_answered()?;
            }
            () = sleep_until(sandbox.agent_deadline.unwrap_or(deadline)),
                if sandbox.agent_deadline.is_some() && !sandbox.record.ready =>
            {
                tracing::warn!("the guest agent does not answer: sessions use SSH");
                sandbox.become_ready()?;
            }
            () = sleep_until(deadline), if !sandbox.record.ready => {
                return Err(SupervisorError::NotReady {
                    timeout: plan.spec.ready_timeout,
                    stage: sandbox.stage,
                });
            }
            _ = log_check.tick() => {
                if let Err(error) = log_limit::enforce(&plan.layout) {
                    tracing::warn!(%error, "the console's log could not be bounded");
                }
            }
        }
    }
}

async fn next_event(events: &mut Option<GuestEvents>) -> Option<GuestEvent> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

fn log_ticks() -> Interval {
    let mut ticks = interval(LOG_CHECK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn new_record(plan: &StartPlan) -> Result<Record, SupervisorError> {
    let own_pid = i32::try_from(std::process::id()).map_err(std::io::Error::other)?;
    let spec = &plan.spec;
    Ok(Record {
        version: Record::version(),
        name: spec.name.clone(),
        workspace: spec.workspace.clone(),
        image: plan.image.name.clone(),
        image_digest: plan.image.digest.clone(),
        template: None,
        cpus: spec.cpus,
        memory: spec.memory,
        disk: spec.disk,
        accelerator: plan.accelerator,
        share_mode: spec.share_mode,
        shares: spec.shares.clone(),
        network: spec.network.summary(),
        created: jiff::Timestamp::now(),
        supervisor: ProcessIdentity::of(own_pid)?,
        qemu: None,
        ssh_port: None,
        agent: None,
        alias_file: None,
        ready: false,
    })
}

/// The restored guest's answer, once it has come; waits for ever where no
/// question is open.
async fn answered<F: Future<Output = Result<Response, AgentError>>>(
    starting: &mut Pin<&mut Option<F>>,
) -> Result<Response, AgentError> {
    match starting.as_mut().as_pin_mut() {
        Some(future) => {
            let answer = future.await;
            starting.set(None);
            answer
        }
        None => std::future::pending().await,
    }
}
