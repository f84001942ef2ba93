//! From the first file to the last wait: what a supervisor does while its
//! sandbox lives.

use std::time::Duration;

use agent_protocol::message::Request;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::agent_link::AgentLink;
use super::guest_events::GuestEvents;
use super::hub::Hub;
use super::launch::{self, Launch, Launched};
use super::server::StopRequest;
use super::{SupervisorError, files, log_limit};
use crate::guest::event::GuestEvent;
use crate::host::files as host_files;
use crate::host::process::ProcessIdentity;
use crate::qemu::qmp::{self, QmpError};
use crate::sandbox::{EndReason, Event, Record, StartPlan};
use crate::ssh::alias::Written;

/// Between two attempts to reach a socket that QEMU is about to make.
const SOCKET_RETRY: Duration = Duration::from_millis(2);

/// How long QEMU may take to make its sockets.
const SOCKET_DEADLINE: Duration = Duration::from_secs(30);

/// How long QEMU may take to end once told to `quit`.
const QUIT_GRACE: Duration = Duration::from_secs(3);

/// How long the agent may take, once the guest is ready, before sessions do
/// without it.
const AGENT_GRACE: Duration = Duration::from_secs(2);

/// How long the guest may take to write out what it holds back for shares, and
/// failing that to power itself down, when nothing else of it is wanted.
const FLUSH_GRACE: Duration = Duration::from_secs(10);

/// How often the console's log is measured.
const LOG_CHECK: Duration = Duration::from_secs(1);

/// The guest's port of sshd.
const GUEST_SSH_PORT: u16 = 22;

/// Starts the sandbox and waits for its end.
pub(super) async fn supervise(
    plan: &StartPlan,
    hub: &Hub,
    mut stop: mpsc::Receiver<StopRequest>,
) -> Result<EndReason, SupervisorError> {
    let deadline = Instant::now() + plan.spec.ready_timeout;
    hub.tell(Event::Preparing);
    let mut record = new_record(plan)?;
    record.write(&plan.layout.record())?;
    files::write_common(plan)?;
    files::write_boot_files(&plan.layout, &plan.cold.seed, &plan.image)?;
    files::write_cold_disk(plan)?;

    let Launched { mut child, warning } = launch::launch(&Launch {
        argv: &plan.cold.argv,
        log: &plan.layout.qemu_log(),
        filter: None,
    })?;
    hub.tell(Event::Booting {
        accelerator: plan.accelerator,
    });
    if let Some(message) = warning {
        hub.tell(Event::Warning { message });
    }
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        record.qemu = ProcessIdentity::of(pid).ok();
    }
    let attended = attend(plan, hub, &mut stop, record, &mut child, deadline).await;
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

/// Accompanies a started QEMU to its end, or to a failure.
async fn attend(
    plan: &StartPlan,
    hub: &Hub,
    stop: &mut mpsc::Receiver<StopRequest>,
    record: Record,
    child: &mut Child,
    deadline: Instant,
) -> Result<EndReason, SupervisorError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (monitor, events) = connect(plan, child).await?;
    let mut sandbox = Running {
        plan,
        hub,
        child,
        monitor,
        agent: AgentLink::start(&plan.layout)?,
        agent_deadline: None,
        record,
        stage: "starting its kernel",
    };
    sandbox.announce_port().await?;
    let mut events = Some(events);
    let mut log_check = log_ticks();
    loop {
        tokio::select! {
            event = next_event(&mut events) => match event {
                Some(event) => sandbox.handle(event)?,
                // The port is closed; QEMU's end is seen elsewhere.
                None => events = None,
            },
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
        created: jiff::Timestamp::now(),
        supervisor: ProcessIdentity::of(own_pid)?,
        qemu: None,
        ssh_port: None,
        agent: None,
        alias_file: None,
        ready: false,
    })
}

/// Connects to QEMU's monitor and to the guest's events, before the guest has
/// run far enough to send any.
async fn connect(
    plan: &StartPlan,
    child: &mut Child,
) -> Result<(qmp::Client, GuestEvents), SupervisorError> {
    let deadline = Instant::now() + SOCKET_DEADLINE;
    let events = loop {
        match GuestEvents::connect(&plan.layout.event_socket()).await {
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
        match qmp::Client::connect(&plan.layout.qmp_socket()).await {
            Ok(client) => return Ok((client, events)),
            Err(QmpError::Connect(_)) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            status = child.wait() => return Err(SupervisorError::QemuEnded(status?)),
            () = sleep(SOCKET_RETRY) => {}
        }
    }
}

/// A sandbox whose QEMU runs.
struct Running<'a> {
    plan: &'a StartPlan,
    hub: &'a Hub,
    child: &'a mut Child,
    monitor: qmp::Client,
    agent: AgentLink,
    /// Set once the guest is ready, for an agent that has not answered yet.
    agent_deadline: Option<Instant>,
    record: Record,
    /// What the guest was last seen doing, for the error of a missed deadline.
    stage: &'static str,
}

impl Running<'_> {
    /// Finds the forwarded port and writes down all that lets sessions in.
    async fn announce_port(&mut self) -> Result<(), SupervisorError> {
        let layout = &self.plan.layout;
        let port = self
            .monitor
            .forwarded_port(GUEST_SSH_PORT)
            .await?
            .ok_or(SupervisorError::NoForwardedPort)?;
        self.record.ssh_port = Some(port);
        host_files::write_private_volatile(&layout.ssh_port(), format!("{port}\n").as_bytes())?;
        self.record.alias_file = match files::write_alias(self.plan, port)? {
            Written::Usable(path) => Some(path),
            Written::NotIncluded(path) => {
                self.hub.tell(Event::AliasNotIncluded);
                Some(path)
            }
            Written::Unwanted => None,
        };
        self.record.write(&layout.record())?;
        Ok(())
    }

    fn handle(&mut self, event: GuestEvent) -> Result<(), SupervisorError> {
        match event {
            GuestEvent::Init => {
                self.stage = "in its initial RAM disk";
                self.hub.tell(Event::KernelUp);
            }
            GuestEvent::SwitchRoot => {
                self.stage = "starting systemd";
                self.hub.tell(Event::SystemdStarting);
            }
            GuestEvent::Waiting { reason } if !self.record.ready => {
                self.stage = "waiting for one of its services";
                self.hub.tell(Event::Waiting { reason });
            }
            GuestEvent::Ready if self.record.agent.is_some() => self.become_ready()?,
            GuestEvent::Ready if self.agent_deadline.is_none() => {
                self.agent_deadline = Some(Instant::now() + AGENT_GRACE);
            }
            GuestEvent::Settled if self.stage != SETTLED => {
                self.stage = SETTLED;
                self.hub.tell(Event::Settled);
            }
            GuestEvent::Failed { reason } if !self.record.ready => {
                return Err(SupervisorError::Guest { reason });
            }
            // A guest that repeats itself, or that fails after it was ready,
            // is not believed: the history is kept and must stay short.
            _ => {}
        }
        Ok(())
    }

    /// The agent's preamble came, usually before the guest is ready.
    fn agent_answered(&mut self) -> Result<(), SupervisorError> {
        self.record.agent = Some(agent_protocol::VERSION);
        match self.agent_deadline {
            Some(_) => self.become_ready(),
            None => Ok(()),
        }
    }

    /// Lets sessions in. A guest may say that it is ready more than once.
    fn become_ready(&mut self) -> Result<(), SupervisorError> {
        if !self.record.ready {
            self.record.ready = true;
            self.record.write(&self.plan.layout.record())?;
            self.hub.tell(Event::Ready {
                ssh_port: self.record.ssh_port.unwrap_or_default(),
                agent: self.record.agent,
            });
        }
        Ok(())
    }

    /// A guest whose disk finds no room on the host's is paused by QEMU. Its
    /// processes would hang without a word, so it ends here, with one.
    fn handle_monitor(&self, event: &qapi_qmp::Event) -> Result<(), SupervisorError> {
        match event {
            qapi_qmp::Event::BLOCK_IO_ERROR { data, .. } if data.nospace == Some(true) => {
                Err(SupervisorError::HostDiskFull {
                    path: self.plan.layout.overlay(),
                })
            }
            _ => Ok(()),
        }
    }

    /// QEMU ended without having been told to: with status 0 when the guest
    /// powered itself off.
    fn ended_by_itself(
        &self,
        status: std::process::ExitStatus,
    ) -> Result<EndReason, SupervisorError> {
        if !status.success() {
            return Err(SupervisorError::QemuEnded(status));
        }
        if self.record.ready {
            Ok(EndReason::GuestPoweredOff)
        } else {
            Err(SupervisorError::Guest {
                reason: "it powered itself off before it was ready".into(),
            })
        }
    }

    /// Ends the guest: by its power button if it runs, then by `quit`, then by
    /// force. QEMU is gone afterwards in any case.
    async fn stop(&mut self, request: StopRequest) -> Result<EndReason, SupervisorError> {
        self.hub.tell(Event::Stopping);
        let (grace, reason) = match request {
            StopRequest::Asked(grace) => (grace, EndReason::Stopped),
            // Nobody waits for the guest's last words, and its disk is thrown
            // away; but what it wrote to shares must be flushed.
            StopRequest::Discarded => (self.flush(FLUSH_GRACE).await, EndReason::Stopped),
            StopRequest::Abandoned => (self.flush(QUIT_GRACE).await, EndReason::Abandoned),
        };
        if self.record.ready && !grace.is_zero() {
            let pressed = self.monitor.execute(qapi_qmp::system_powerdown {}).await;
            if pressed.is_ok() && timeout(grace, self.child.wait()).await.is_ok() {
                return Ok(reason);
            }
        }
        drop(self.monitor.execute(qapi_qmp::quit {}).await);
        if timeout(QUIT_GRACE, self.child.wait()).await.is_err() {
            tracing::warn!("QEMU did not quit and is killed");
            self.child.kill().await?;
        }
        Ok(reason)
    }

    /// Has the agent write out what the guest holds back for shares, within
    /// `grace`. Gives the grace that the power button needs to do the same:
    /// none if the agent has done it.
    async fn flush(&self, grace: Duration) -> Duration {
        if self.record.agent.is_none() {
            return grace;
        }
        match self.agent.ask(Request::Flush, grace).await {
            Ok(_) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(%error, "the guest agent did not flush the shares");
                grace
            }
        }
    }
}

const SETTLED: &str = "running";
