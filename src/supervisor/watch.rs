//! The supervision of one sandbox, from its first file to the end of QEMU.

use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::time::Duration;

use sandbox_protocol::agent::message::Response;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::agent_link::AgentLink;
use super::connect::{Connected, connect};
use super::event_log::EventLog;
use super::guest_events::GuestEvents;
use super::launch::{self, Launch, Launched};
use super::running::{QUIT_GRACE, Running, handle_monitor_event};
use super::server::StopRequest;
use super::signals::Terminations;
use super::{Owner, SupervisorError, end_failed, files, log_limit, log_lines, personalize};
use crate::agent::AgentError;
use crate::{StartPlan, WarmStart};
use sandbox_gateway::gateway::{Gateway, GatewayError, HostPorts};
use sandbox_gateway::request::GatewayRequest;
use sandbox_host::process::ProcessIdentity;
use sandbox_protocol::guest_event::GuestEvent;
use sandbox_protocol::{EndReason, Event, Record};
use sandbox_qemu::discard_filter::DiscardFilter;

/// How long a restored guest may take to become ready. A healthy one takes a fraction of a second.
/// Many of them on a busy host take some seconds.
const RESTORE_DEADLINE: Duration = Duration::from_secs(60);

/// The interval between two checks of the console log's size.
const LOG_CHECK: Duration = Duration::from_secs(1);

/// Starts the sandbox and waits for its end. Restores the template if the plan has one, and boots
/// if that fails.
pub(super) async fn supervise(
    plan: &StartPlan,
    owner: Owner,
    event_log: &EventLog,
    stop: mpsc::Receiver<StopRequest>,
    gateway_requests: mpsc::Receiver<GatewayRequest>,
) -> Result<EndReason, SupervisorError> {
    let deadline = Instant::now() + plan.spec.ready_timeout;
    event_log.append(Event::Preparing);
    let record = new_record(plan, owner)?;
    record.write(&plan.layout.record())?;
    files::write_common(plan)?;
    let mut start = Start {
        plan,
        owner,
        event_log,
        stop,
        gateway_requests,
        record,
        deadline,
    };
    if let Some(warm) = &plan.warm {
        let outcome = start.attempt(StartMethod::Restore(warm)).await;
        let Err(error) = outcome else { return outcome };
        if start.record.ready || !error.may_be_the_templates_fault() {
            return Err(error);
        }
        let words = log_lines(&error, &plan.layout);
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            ?words,
            template = %warm.template.key,
            "could not restore the template; discarding it and booting"
        );
        if let Err(error) = warm.template.store.discard(&warm.template.key) {
            tracing::warn!(%error, "could not discard the template");
        }
        start.clear_attempt()?;
    }
    let outcome = start.attempt(StartMethod::Boot).await;
    match outcome {
        Err(error) if error.is_crash() && !start.record.ready => {
            let words = log_lines(&error, &plan.layout);
            tracing::warn!(%error, ?words, "QEMU crashed; starting again");
            event_log.append(Event::Warning {
                message: format!("{error}; starting it again"),
            });
            start.clear_attempt()?;
            start.attempt(StartMethod::Boot).await
        }
        _ => outcome,
    }
}

/// The two methods of a start.
#[derive(Clone, Copy)]
enum StartMethod<'a> {
    /// Boots the image's kernel.
    Boot,
    /// Restores the guest of a template.
    Restore(&'a WarmStart),
}

/// The state that all attempts to start a sandbox share.
struct Start<'a> {
    plan: &'a StartPlan,
    owner: Owner,
    event_log: &'a EventLog,
    stop: mpsc::Receiver<StopRequest>,
    /// Requests of commands to the gateway.
    gateway_requests: mpsc::Receiver<GatewayRequest>,
    record: Record,
    deadline: Instant,
}

impl Start<'_> {
    /// Prepares another attempt after a failed one.
    fn clear_attempt(&mut self) -> Result<(), SupervisorError> {
        files::clear_attempt(&self.plan.layout)?;
        self.record.template = None;
        self.record.agent = None;
        self.deadline = Instant::now() + self.plan.spec.ready_timeout;
        Ok(())
    }

    /// Starts QEMU and supervises it to its end. QEMU has ended afterwards.
    async fn attempt(&mut self, method: StartMethod<'_>) -> Result<EndReason, SupervisorError> {
        let network = &self.plan.spec.network;
        let ports = HostPorts::bind(&network.published).map_err(GatewayError::from)?;
        self.record.network.published = ports.published();
        let ssh_port = ports.ssh_port();
        let (guests_end, gateways_end) = std::os::unix::net::UnixStream::pair()?;
        let config = network.gateway_config(&self.plan.network_directory);
        let gateway = Gateway::start(gateways_end, config, ports)?;
        let Launched { mut child, warning } = start_qemu(self.plan, method, guests_end.as_fd())?;
        // Only QEMU may hold its end, so that the gateway sees QEMU's end.
        drop(guests_end);
        self.event_log.append(match method {
            StartMethod::Boot => Event::Booting {
                accelerator: self.plan.accelerator,
            },
            StartMethod::Restore(_) => Event::Restoring,
        });
        if let Some(message) = warning {
            self.event_log.append(Event::Warning { message });
        }
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            self.record.qemu = ProcessIdentity::of(pid).ok();
        }
        let attended = self.attend(method, &mut child, &gateway, ssh_port).await;
        let ended = match attended {
            Ok(reason) => Ok(reason),
            Err(error) => {
                Err(end_failed(&mut child, error, self.plan.accelerator, &self.plan.layout).await?)
            }
        };
        gateway.finish();
        ended
    }

    /// Handles all events of a started QEMU until it ends or fails.
    async fn attend(
        &mut self,
        method: StartMethod<'_>,
        child: &mut Child,
        gateway: &Gateway,
        ssh_port: u16,
    ) -> Result<EndReason, SupervisorError> {
        let plan = self.plan;
        let mut deadline = self.deadline;
        let mut terminations = Terminations::of(self.owner)?;
        let Connected { monitor, events } = connect(&plan.layout, child).await?;
        let mut sandbox = Running {
            plan,
            event_log: self.event_log,
            child,
            monitor,
            agent: AgentLink::start(&plan.layout)?,
            agent_deadline: None,
            record: &mut self.record,
            stage: match method {
                StartMethod::Boot => "starting its kernel",
                StartMethod::Restore(_) => "being restored",
            },
        };
        let starting = match method {
            StartMethod::Boot => None,
            StartMethod::Restore(warm) => {
                sandbox.resume(warm).await?;
                deadline = deadline.min(Instant::now() + RESTORE_DEADLINE);
                Some(personalize::personalize(sandbox.agent.asker(), plan, warm)?)
            }
        };
        tokio::pin!(starting);
        sandbox.announce_port(ssh_port)?;
        let mut events = Some(events);
        let mut log_check = log_ticks();
        loop {
            tokio::select! {
                event = next_event(&mut events) => match event {
                    Some(event) => {
                        if matches!(event, GuestEvent::Waiting { .. }) {
                            // The guest is alive, so its deadline starts again.
                            deadline = deadline.max(Instant::now() + plan.spec.ready_timeout);
                        }
                        sandbox.handle(event)?;
                    }
                    // The port is closed. `child.wait()` reports QEMU's end.
                    None => events = None,
                },
                answer = answered(&mut starting) => sandbox.started(answer)?,
                Some(event) = sandbox.monitor.events.recv() => {
                    let disk = plan.layout.overlay();
                    handle_monitor_event(&mut sandbox.monitor, &event, &disk).await?;
                }
                status = sandbox.child.wait() => return sandbox.ended_by_itself(status?),
                Some(request) = self.gateway_requests.recv() => gateway.ask(request),
                Some(request) = self.stop.recv() => return sandbox.stop(request).await,
                () = terminations.next() => {
                    return sandbox.stop(StopRequest::Asked(QUIT_GRACE)).await;
                }
                () = sandbox.agent.answered(), if sandbox.record.agent.is_none() && !sandbox.record.ready => {
                    sandbox.agent_answered()?;
                }
                () = sleep_until(sandbox.agent_deadline.unwrap_or(deadline)),
                    if sandbox.agent_deadline.is_some() && !sandbox.record.ready =>
                {
                    tracing::warn!("the guest agent does not answer; sessions use SSH");
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
                        tracing::warn!(%error, "could not rotate the console log");
                    }
                }
            }
        }
    }
}

/// Writes the files that QEMU opens, and starts QEMU.
fn start_qemu(
    plan: &StartPlan,
    method: StartMethod<'_>,
    network: BorrowedFd<'_>,
) -> Result<Launched, SupervisorError> {
    let (argv, filter) = match method {
        StartMethod::Boot => {
            files::write_boot_files(&plan.layout, &plan.cold.seed, &plan.image)?;
            files::write_cold_disk(plan)?;
            (&plan.cold.argv, None)
        }
        StartMethod::Restore(warm) => {
            files::write_warm_disk(&plan.layout, &warm.template)?;
            (&warm.argv, Some(DiscardFilter::new()?))
        }
    };
    launch::launch(&Launch {
        argv,
        log: &plan.layout.qemu_log(),
        network,
        filter,
    })
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

fn new_record(plan: &StartPlan, owner: Owner) -> Result<Record, SupervisorError> {
    let own_pid = i32::try_from(std::process::id()).map_err(std::io::Error::other)?;
    let spec = &plan.spec;
    Ok(Record {
        version: sandbox_protocol::record::VERSION,
        name: spec.name.clone(),
        workspace: spec.workspace.clone().unwrap_or_default(),
        image: plan.image.name.clone(),
        image_digest: plan
            .image
            .digest
            .ok_or_else(|| std::io::Error::other("the image is not stored"))?,
        template: None,
        cpus: spec.cpus,
        memory: spec.memory,
        disk: spec.disk,
        accelerator: plan.accelerator,
        nested_virtualization: spec.nested_virtualization,
        share_mode: spec.share_mode,
        shares: spec.shares.clone(),
        network_directory: plan.network_directory.clone(),
        network: spec.network.summary(),
        created: std::time::SystemTime::now(),
        supervisor: ProcessIdentity::of(own_pid)?,
        embedded: owner == Owner::Thread,
        qemu: None,
        ssh_port: None,
        agent: None,
        alias_file: None,
        ready: false,
    })
}

/// Waits for the restored guest's answer. Without an open request, waits forever.
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
