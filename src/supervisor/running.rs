//! A sandbox whose QEMU runs: what its guest tells, and how it ends.

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
use sandbox_qemu::{migration, qmp};

/// How long QEMU may take to end once told to `quit`.
pub(super) const QUIT_GRACE: Duration = Duration::from_secs(3);

/// How long the agent may take, once the guest is ready, before sessions do
/// without it.
const AGENT_GRACE: Duration = Duration::from_secs(2);

/// How long the guest may take to write out what it holds back for shares, and
/// failing that to power itself down, when nothing else of it is wanted.
const FLUSH_GRACE: Duration = Duration::from_secs(10);

/// A sandbox whose QEMU runs.
pub(super) struct Running<'a> {
    pub(super) plan: &'a StartPlan,
    pub(super) event_log: &'a EventLog,
    pub(super) child: &'a mut Child,
    pub(super) monitor: qmp::Client,
    pub(super) agent: AgentLink,
    /// Set once the guest is ready, for an agent that has not answered yet.
    pub(super) agent_deadline: Option<Instant>,
    pub(super) record: &'a mut Record,
    /// What the guest was last seen doing, for the error of a missed deadline.
    pub(super) stage: &'static str,
}

impl Running<'_> {
    /// Writes down all that lets sessions in by this port of the host.
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
            // A guest that repeats itself, or that fails after it was ready,
            // is not believed: the history is kept and must stay short.
            _ => {}
        }
        Ok(())
    }

    /// The agent's preamble came, usually before the guest is ready.
    pub(super) fn agent_answered(&mut self) -> Result<(), SupervisorError> {
        self.record.agent = Some(sandbox_protocol::agent::VERSION);
        match self.agent_deadline {
            Some(_) => self.become_ready(),
            None => Ok(()),
        }
    }

    /// Lets sessions in. A guest may say that it is ready more than once.
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

    /// Restores the guest and lets it go on. The host's end of its ports is open
    /// by now, so that it finds it so.
    pub(super) async fn resume(&mut self, warm: &WarmStart) -> Result<(), SupervisorError> {
        migration::restore(&mut self.monitor, &warm.template.state).await?;
        self.monitor.execute(qmp::command::Cont {}).await?;
        let disk = self.plan.spec.disk.bytes();
        if disk > warm.template.disk_bytes {
            self.monitor.resize_disk("root", disk).await?;
        }
        self.record.template = Some(warm.template.key);
        self.stage = "becoming a sandbox of its own";
        Ok(())
    }

    /// Takes the restored guest's answer to what it was told.
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

    /// A guest whose disk finds no room on the host's is paused by QEMU. Its
    /// processes would hang without a word, so it ends here, with one.
    pub(super) fn handle_monitor(&self, event: &qmp::Event) -> Result<(), SupervisorError> {
        match event {
            qmp::Event::BlockIoError { data } if data.nospace == Some(true) => {
                Err(SupervisorError::HostDiskFull {
                    path: self.plan.layout.overlay(),
                })
            }
            _ => Ok(()),
        }
    }

    /// QEMU ended without having been told to: with status 0 when the guest
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

    /// Ends the guest: by its power button if it runs, then by `quit`, then by
    /// force. QEMU is gone afterwards in any case.
    pub(super) async fn stop(
        &mut self,
        request: StopRequest,
    ) -> Result<EndReason, SupervisorError> {
        self.event_log.append(Event::Stopping);
        let (grace, reason) = match request {
            StopRequest::Asked(grace) => (grace, EndReason::Stopped),
            // Nobody waits for the guest's last words, and its disk is thrown
            // away; but what it wrote to shares must be flushed.
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
