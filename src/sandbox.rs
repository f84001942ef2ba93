//! A running sandbox.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use sandbox_host::hint::Hint;
use sandbox_protocol::agent::message::Status;
use sandbox_protocol::control::{Connection, Request};
use sandbox_protocol::{EndReason, Event as SandboxEvent};
use sandbox_spec::SandboxName;
use sandbox_spec::guest::WORKSPACE;

use crate::agent;
use crate::console::Console;
use crate::error::{Error, ErrorKind};
use crate::exec::Exec;
use crate::host::Host;
use crate::registry::{self, Found};
use crate::ssh::Endpoint;
use crate::start::{Joined, SandboxBuilder, wait_for_ready};
use crate::state::StateLayout;

/// How long a supervisor may take beyond the guest's grace to end QEMU and to remove files.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(15);

/// How long a killed supervisor may hold its lock.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// How long dropping a sandbox may take.
const DROP_DEADLINE: Duration = Duration::from_secs(10);

/// The interval between two checks for the end of a thread or a sandbox.
const INTERVAL: Duration = Duration::from_millis(10);

/// A running sandbox.
///
/// Dropping an attached sandbox ([`Lifetime::Attached`](crate::Lifetime::Attached), the default)
/// discards it: the guest flushes its shares, then QEMU ends. The drop waits for a supervisor
/// thread for at most 10 s, so that no process and no file is left when the program ends.
#[derive(Debug)]
pub struct Sandbox {
    host: Host,
    name: SandboxName,
    layout: StateLayout,
    workspace: Option<PathBuf>,
    ssh_port: u16,
    agent: Option<u32>,
    /// The source of events. An attached sandbox ends with this connection.
    connection: Option<Connection>,
    thread: Option<JoinHandle<()>>,
    is_started: bool,
    has_booted: bool,
}

impl Sandbox {
    /// Returns a builder for a sandbox.
    pub fn builder(host: &Host) -> SandboxBuilder {
        SandboxBuilder::new(host)
    }

    /// Connects to a running sandbox of any program, and waits until it is ready. The sandbox keeps
    /// running when the handle is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where no such sandbox runs, [`ErrorKind::Start`] where it fails
    /// before it is ready.
    pub async fn connect(host: &Host, name: &SandboxName) -> Result<Self, Error> {
        let found = running(host, name)?;
        let connected = Self::connect_until(host, found, |_| {}, std::future::pending()).await?;
        connected.ok_or_else(|| Error::new(ErrorKind::Cancelled, "cancelled", None))
    }

    /// Like [`connect`](Self::connect), for a sandbox that was found, and with events. Returns
    /// `None` if `cancel` is ready first.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_until(
        host: &Host,
        found: Found,
        mut listener: impl FnMut(&crate::Event) + Send,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<Option<Self>, Error> {
        let socket = found.layout.control_socket();
        let connection = Connection::open(&socket, Request::Subscribe)
            .await
            .map_err(|error| {
                let error = sandbox_host::files::FileError::new(
                    "connect to the supervisor at",
                    &socket,
                )(error);
                let hint =
                    Hint::text("remove its state with ").command(format!("stop {}", found.name));
                Error::new(ErrorKind::Disconnected, error, Some(hint))
            })?;
        let workspace = found.record().map(|record| record.workspace.clone());
        let joined = Joined {
            host: host.clone(),
            name: found.name,
            layout: found.layout,
            connection,
            thread: None,
            workspace: workspace.filter(|path| !path.as_os_str().is_empty()),
            is_started: false,
        };
        wait_for_ready(joined, &mut listener, std::pin::pin!(cancel)).await
    }

    pub(crate) fn new(joined: Joined, ssh_port: u16, agent: Option<u32>, has_booted: bool) -> Self {
        Self {
            host: joined.host,
            name: joined.name,
            layout: joined.layout,
            workspace: joined.workspace,
            ssh_port,
            agent,
            connection: Some(joined.connection),
            thread: joined.thread,
            is_started: joined.is_started,
            has_booted,
        }
    }

    /// Returns the sandbox's name.
    pub fn name(&self) -> &SandboxName {
        &self.name
    }

    /// Returns the host directory that the sandbox shares as its workspace.
    pub fn workspace(&self) -> Option<&Path> {
        self.workspace.as_deref()
    }

    /// Returns the directory of the sandbox's sockets and logs. It is removed when the sandbox
    /// ends.
    pub fn directory(&self) -> &Path {
        self.layout.directory()
    }

    /// Returns the port on 127.0.0.1 that forwards to the guest's sshd.
    pub fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    /// Returns whether this handle started the sandbox; false for a sandbox that already ran.
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Returns whether this handle saw the sandbox boot, instead of being restored from a template.
    pub fn has_booted(&self) -> bool {
        self.has_booted
    }

    /// Returns whether the guest agent answers in this library's version of its protocol.
    /// [`exec`](Self::exec) needs it.
    pub fn has_agent(&self) -> bool {
        self.agent == Some(sandbox_protocol::agent::VERSION)
    }

    /// Returns the endpoint of the guest's sshd for `user`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the host key that was written at the start cannot be read.
    pub fn ssh_endpoint(&self, user: &str) -> Result<Endpoint, Error> {
        Ok(self.layout.endpoint(&self.name, self.ssh_port, user)?)
    }

    /// Prepares a command. The guest searches `program` in its `PATH`, without a shell.
    pub fn exec(&self, program: impl Into<OsString>) -> Exec {
        self.prepare(Some(program.into()))
    }

    /// Prepares a login shell.
    pub fn shell(&self) -> Exec {
        self.prepare(None)
    }

    fn prepare(&self, program: Option<OsString>) -> Exec {
        let directory = self.workspace.as_ref().map(|_| WORKSPACE.into());
        Exec::new(self.layout.agent_socket(), program, directory)
    }

    /// Connects to the serial console.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where it cannot be reached.
    pub async fn console(&self) -> Result<Console, Error> {
        Ok(Console::open(&self.layout.console_socket(), &self.layout.console_log()).await?)
    }

    /// Asks the guest for its kernel, load, memory, disk and addresses.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] and [`ErrorKind::Timeout`] where the guest agent does not
    /// answer.
    pub async fn status(&self) -> Result<Status, Error> {
        Ok(agent::status(&self.layout.agent_socket()).await?)
    }

    /// Powers the guest down, and ends QEMU after `grace`. Returns once the sandbox's state is
    /// removed.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] where the sandbox does not end.
    pub async fn stop(mut self, grace: Duration) -> Result<(), Error> {
        let found = Found::new(self.name.clone(), self.layout.clone());
        let stopped = stop(&self.host, found, grace).await;
        self.connection = None;
        if let Some(thread) = self.thread.take() {
            join(thread).await;
        }
        stopped
    }

    /// Ends the sandbox as soon as the guest has flushed its shares. Returns once the sandbox's
    /// state is removed.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] where the supervisor does not answer.
    pub async fn discard(&mut self, mut listener: impl FnMut(&crate::Event)) -> Result<(), Error> {
        if let Some(connection) = &mut self.connection {
            connection.ask(Request::Discard).await?;
            while let Ok(Some(event)) = connection.next_event().await {
                match event.event {
                    SandboxEvent::Stopping => {
                        listener(&crate::Event::Stage(crate::Stage::Stopping));
                    }
                    SandboxEvent::Ended { .. } => break,
                    _ => {}
                }
            }
        }
        self.connection = None;
        if let Some(thread) = self.thread.take() {
            join(thread).await;
        }
        Ok(())
    }

    /// Closes the handle without waiting. An attached sandbox then ends. A persistent one keeps
    /// running.
    pub fn leave(mut self) {
        self.connection = None;
        self.thread = None;
    }

    /// Waits until the sandbox has ended, and returns the reason; `None` if it is unknown.
    pub async fn ended(&mut self) -> Option<Error> {
        let mut failure = None;
        if let Some(connection) = &mut self.connection {
            while let Ok(Some(event)) = connection.next_event().await {
                match event.event {
                    SandboxEvent::Failed(reported) => failure = Some(Error::from(reported)),
                    SandboxEvent::Ended { reason } => {
                        return failure.or_else(|| ended(&self.name, &reason));
                    }
                    _ => {}
                }
            }
        }
        failure
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The supervisor of an attached sandbox ends it when the connection ends.
        self.connection = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        let deadline = std::time::Instant::now() + DROP_DEADLINE;
        while !thread.is_finished() && std::time::Instant::now() < deadline {
            std::thread::sleep(INTERVAL);
        }
        if thread.is_finished() {
            drop(thread.join());
        }
    }
}

/// Waits for the supervisor thread of a sandbox that has ended.
pub(crate) async fn join(thread: JoinHandle<()>) {
    while !thread.is_finished() {
        tokio::time::sleep(INTERVAL).await;
    }
    drop(thread.join());
}

fn ended(name: &SandboxName, reason: &EndReason) -> Option<Error> {
    let how = match reason {
        EndReason::Stopped => "was stopped",
        EndReason::GuestPoweredOff => "powered itself off",
        EndReason::Abandoned => "ended with the command that had started it",
        _ => return None,
    };
    Some(Error::new(
        ErrorKind::Disconnected,
        format!("the sandbox `{name}` {how} during the command"),
        Some(Hint::text("start it again with ").command("--kvm")),
    ))
}

/// Returns the running sandbox of this name.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it does not run.
pub(crate) fn running(host: &Host, name: &SandboxName) -> Result<Found, Error> {
    host.find(name)?.ok_or_else(|| not_running(name))
}

fn not_running(name: &SandboxName) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("no sandbox named `{name}` is running"),
        Some(
            Hint::text("run ")
                .command("list")
                .then(" to list the running sandboxes, or ")
                .command("--kvm")
                .then(" to start the one of this directory"),
        ),
    )
}

impl Host {
    /// Returns the running sandbox of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it does not run.
    pub fn running(&self, name: &SandboxName) -> Result<Found, Error> {
        running(self, name)
    }

    /// Returns the names of all sandboxes that [`stop`](Self::stop) can end or remove.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the state cannot be read.
    pub fn stoppable(&self) -> Result<Vec<SandboxName>, Error> {
        let mut names = registry::names(self.directories())?;
        names.retain(|name| StateLayout::new(self.directories(), name).lock().exists());
        Ok(names)
    }

    /// Checks that [`stop`](Self::stop) can end or remove the sandbox of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is neither a running sandbox nor a dead one's state.
    pub fn stoppable_named(&self, name: &SandboxName) -> Result<(), Error> {
        match StateLayout::new(self.directories(), name).lock().exists() {
            true => Ok(()),
            false => Err(not_running(name)),
        }
    }

    /// Powers a sandbox down, and ends QEMU after `grace`. Returns once the sandbox's state is
    /// removed. Also removes the state of a dead sandbox.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the sandbox does not exist, [`ErrorKind::Timeout`] where it
    /// does not end.
    pub async fn stop(&self, name: &SandboxName, grace: Duration) -> Result<(), Error> {
        let layout = StateLayout::new(self.directories(), name);
        if registry::collect_if_dead(&layout) {
            return Ok(());
        }
        let found = running(self, name)?;
        stop(self, found, grace).await
    }
}

async fn stop(host: &Host, found: Found, grace: Duration) -> Result<(), Error> {
    let limit = grace + SUPERVISOR_GRACE;
    if let Ok(Some(())) = tokio::time::timeout(limit, ask_to_stop(&found, grace)).await {
        return Ok(());
    }
    // Kills a supervisor that does not answer. The kernel kills its QEMU.
    let was_killed = found
        .record()
        .is_some_and(|record| record.kill_supervisor());
    let gone = async {
        while matches!(registry::find(host.directories(), &found.name), Ok(Some(_))) {
            tokio::time::sleep(INTERVAL).await;
        }
    };
    if tokio::time::timeout(KILL_DEADLINE, gone).await.is_ok() {
        registry::collect_if_dead(&found.layout);
        return Ok(());
    }
    let hint = match found.record() {
        Some(record) if !was_killed && record.embedded => Hint::text(format!(
            "end the process {}, which owns it",
            record.supervisor.pid
        )),
        _ => Hint::text("see ").command(format!("logs --supervisor {}", found.name)),
    };
    Err(Error::new(
        ErrorKind::Timeout,
        format!("the sandbox `{}` did not end", found.name),
        Some(hint),
    ))
}

/// Sends a stop request and waits for the last event; `None` if the connection ends earlier.
async fn ask_to_stop(found: &Found, grace: Duration) -> Option<()> {
    let socket = found.layout.control_socket();
    let mut connection = Connection::open(&socket, Request::stop(grace)).await.ok()?;
    while let Some(event) = connection.next_event().await.ok()? {
        if matches!(event.event, SandboxEvent::Ended { .. }) {
            return Some(());
        }
    }
    None
}
