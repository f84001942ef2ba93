//! A sandbox whose QEMU runs: handles the guest's events and ends the guest.

use std::path::Path;
use std::time::Duration;

use sandbox_protocol::agent::message::{Request, Response};
use tokio::process::Child;
use tokio::time::{Instant, timeout};

use super::agent_link::AgentLink;
use super::event_log::EventLog;
use super::server::StopRequest;
use super::{SupervisorError, files};
use crate::agent::AgentError;
use crate::ssh::alias::Written;
use crate::{StartPlan, WarmStart};
use sandbox_host::files as host_files;
use sandbox_protocol::guest_event::GuestEvent;
use sandbox_protocol::{EndReason, Event, Record};
use sandbox_qemu::qmp::command::RunState;
use sandbox_qemu::working_set::{Memory, WorkingSet};
use sandbox_qemu::{migration, qmp};
use sandbox_spec::Accelerator;

/// How long QEMU may take to end after `quit`.
pub(super) const QUIT_GRACE: Duration = Duration::from_secs(3);

/// How long the sandbox waits for the agent once the guest is ready. Without the agent, sessions
/// use SSH.
const AGENT_GRACE: Duration = Duration::from_secs(2);

/// How long a discarded guest may take to flush its shares. If the flush fails, the guest has the
/// same time to power itself down.
const FLUSH_GRACE: Duration = Duration::from_secs(10);

/// A sandbox whose QEMU runs.
pub(super) struct Running<'a> {
    pub(super) plan: &'a StartPlan,
    pub(super) event_log: &'a EventLog,
    pub(super) child: &'a mut Child,
    pub(super) monitor: qmp::Client,
    pub(super) agent: AgentLink,
    /// Set if the guest is ready before the agent has answered.
    pub(super) agent_deadline: Option<Instant>,
    pub(super) record: &'a mut Record,
    /// The last known stage of the guest, for the error of a missed deadline.
    pub(super) stage: &'static str,
}

impl Running<'_> {
    /// Writes the SSH port to the record, to its file and to the alias for OpenSSH.
    pub(super) fn announce_port(&mut self, port: u16) -> Result<(), SupervisorError> {
        let layout = &self.plan.layout;
        self.record.ssh_port = Some(port);
        host_files::write_private_volatile(&layout.ssh_port(), format!("{port}\n").as_bytes())?;
        self.record.alias_file = match files::write_alias(self.plan, port)? {
            Written::Usable(path) => Some(path),
            Written::NotIncluded(path) => {
                self.event_log.append(Event::AliasNotIncluded);
                Some(path)
            }
            Written::Unwanted => None,
        };
        self.record.write(&layout.record())?;
        Ok(())
    }

    pub(super) fn handle(&mut self, event: GuestEvent) -> Result<(), SupervisorError> {
        match event {
            GuestEvent::Init => {
                self.stage = "in its initial RAM disk";
                self.event_log.append(Event::KernelUp);
            }
            GuestEvent::SwitchRoot => {
                self.stage = "starting systemd";
                self.event_log.append(Event::SystemdStarting);
            }
            GuestEvent::Waiting { reason } if !self.record.ready => {
                self.stage = "waiting for one of its services";
                self.event_log.append(Event::Waiting { reason });
            }
            GuestEvent::Ready if self.record.agent.is_some() => self.become_ready()?,
            GuestEvent::Ready if self.agent_deadline.is_none() => {
                self.agent_deadline = Some(Instant::now() + AGENT_GRACE);
            }
            GuestEvent::Settled if self.stage != SETTLED => {
                self.stage = SETTLED;
                self.event_log.append(Event::Settled);
            }
            GuestEvent::Failed { reason } if !self.record.ready => {
                return Err(SupervisorError::Guest { reason });
            }
            // Ignores repeated events, and failures after readiness: the supervisor keeps all
            // events, so a guest must not be able to add any number.
            _ => {}
        }
        Ok(())
    }

    /// Handles the agent's preamble, which usually comes before the guest is ready.
    pub(super) fn agent_answered(&mut self) -> Result<(), SupervisorError> {
        self.record.agent = Some(sandbox_protocol::agent::VERSION);
        match self.agent_deadline {
            Some(_) => self.become_ready(),
            None => Ok(()),
        }
    }

    /// Reports that the sandbox is ready. A guest may report readiness more than once.
    pub(super) fn become_ready(&mut self) -> Result<(), SupervisorError> {
        if !self.record.ready {
            self.record.ready = true;
            self.record.write(&self.plan.layout.record())?;
            self.event_log.append(Event::Ready {
                ssh_port: self.record.ssh_port.unwrap_or_default(),
                agent: self.record.agent,
            });
        }
        Ok(())
    }

    /// Restores the guest and resumes it. The host has already opened its end of the ports, so the
    /// guest finds them open.
    pub(super) async fn resume(&mut self, warm: &WarmStart) -> Result<(), SupervisorError> {
        migration::restore(&mut self.monitor, &warm.template.state).await?;
        if self.plan.accelerator == Accelerator::Kvm
            && let Err(error) = self.map_working_set(warm).await
        {
            // The guest then faults in its memory itself.
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "could not map the working set of the template"
            );
        }
        self.monitor.execute(qmp::command::Cont {}).await?;
        let disk = self.plan.spec.disk.bytes();
        if disk > warm.template.disk_bytes {
            self.monitor.resize_disk("root", disk).await?;
        }
        self.record.template = Some(warm.template.key);
        self.stage = "applying its seed";
        Ok(())
    }

    /// Maps the memory that the guest is about to touch, if it was recorded.
    async fn map_working_set(&mut self, warm: &WarmStart) -> Result<(), SupervisorError> {
        let limit = WorkingSet::FILE_LIMIT;
        let Some(json) = host_files::read_if_present(&warm.template.working_set, limit)? else {
            return Ok(());
        };
        let size = self.plan.spec.memory.bytes();
        let set = WorkingSet::parse(&json, size)?;
        let processors = self.monitor.execute(qmp::command::QueryCpusFast {}).await?;
        let (Some(qemu), Some(first)) = (self.child.id(), processors.first()) else {
            return Ok(());
        };
        let (processor, file) = (first.thread_id, warm.template.ram.clone());
        let map = move || {
            let memory = Memory {
                qemu: qemu.cast_signed(),
                file: &file,
            };
            set.map(&memory, processor, size)
        };
        let mapped = tokio::task::spawn_blocking(map).await;
        mapped.map_err(std::io::Error::other)??;
        tracing::info!("mapped the working set of the template");
        Ok(())
    }

    /// Handles the restored guest's answer to its personalization.
    pub(super) fn started(
        &mut self,
        answer: Result<Response, AgentError>,
    ) -> Result<(), SupervisorError> {
        match answer? {
            Response::Done => {
                self.record.agent = Some(sandbox_protocol::agent::VERSION);
                self.become_ready()
            }
            _ => Err(AgentError::Unexpected.into()),
        }
    }

    /// Handles an end of QEMU that the supervisor did not request. The status is 0 if the guest
    /// powered itself off.
    pub(super) fn ended_by_itself(
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

    /// Ends the guest: by its power button if it is ready, then by `quit`, then by a signal. QEMU
    /// has ended afterwards in any case.
    pub(super) async fn stop(
        &mut self,
        request: StopRequest,
    ) -> Result<EndReason, SupervisorError> {
        self.event_log.append(Event::Stopping);
        let (grace, reason) = match request {
            StopRequest::Asked(grace) => (grace, EndReason::Stopped),
            // The disk is discarded, so only the data for shares must be flushed.
            StopRequest::Discarded => (self.flush(FLUSH_GRACE).await, EndReason::Stopped),
            StopRequest::Abandoned => (self.flush(QUIT_GRACE).await, EndReason::Abandoned),
        };
        if self.record.ready && !grace.is_zero() {
            let pressed = self.monitor.execute(qmp::command::SystemPowerdown {}).await;
            if pressed.is_ok() && timeout(grace, self.child.wait()).await.is_ok() {
                return Ok(reason);
            }
        }
        drop(self.monitor.execute(qmp::command::Quit {}).await);
        if timeout(QUIT_GRACE, self.child.wait()).await.is_err() {
            tracing::warn!("QEMU did not quit; killing it");
            self.child.kill().await?;
        }
        Ok(reason)
    }

    /// Asks the agent to flush the guest's shares within `grace`. Returns the grace that a
    /// power-down then needs for the flush: zero if the agent has done it.
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

/// Handles an event of QEMU's monitor. `disk` is the guest's disk.
///
/// QEMU pauses a guest whose disk cannot grow because the host's disk is full, and a guest whose
/// code KVM cannot execute. Such a guest would hang silently, so it is an error.
///
/// # Errors
/// Fails if the host's disk is full or KVM has failed.
pub(super) async fn handle_monitor_event(
    monitor: &mut qmp::Client,
    event: &qmp::Event,
    disk: &Path,
) -> Result<(), SupervisorError> {
    match event {
        qmp::Event::BlockIoError { data } if data.nospace == Some(true) => {
            Err(SupervisorError::HostDiskFull { path: disk.into() })
        }
        qmp::Event::Stop => {
            let answer = monitor.execute(qmp::command::QueryStatus {}).await?;
            match answer.status {
                RunState::InternalError => Err(SupervisorError::InternalError),
                RunState::Other => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

const SETTLED: &str = "running";
