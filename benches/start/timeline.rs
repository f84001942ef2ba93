//! The end of each phase of one `sandbox run -- true`.

use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::StateLayout;
use sandbox_host::directories::Directories;
use sandbox_protocol::Event;
use sandbox_protocol::control::{Connection, Request};
use sandbox_spec::SandboxName;

use super::PATIENCE;
use super::support::{Program, Result};

/// The sandbox that every measurement starts.
const NAME: &str = "bench-start";

/// A moment of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The supervisor begins to write files.
    Files,
    /// QEMU was executed.
    Qemu,
    /// The guest's init runs.
    Kernel,
    /// systemd takes over.
    Init,
    /// Sessions can enter.
    Ready,
    /// The command has ended.
    Command,
    /// The command has exited, and nothing is left.
    End,
}

/// The moments of one start, counted from its beginning.
pub(super) struct Timeline(Vec<(Mark, Duration)>);

impl Timeline {
    /// Runs `sandbox run FLAGS… -- true` and records its moments.
    pub(super) fn record(program: &Program, flags: &[&str]) -> Result<Self> {
        let fixed = ["run", "-q", "--name", NAME];
        let arguments: Vec<&str> = fixed
            .iter()
            .chain(flags)
            .chain(&["--", "true"])
            .copied()
            .collect();
        let started = Instant::now();
        let mut child = program.command(&arguments).spawn()?;
        let mut marks = listen(started)?;
        let status = child.wait()?;
        marks.push((Mark::End, started.elapsed()));
        if !status.success() {
            return Err(format!("`sandbox {}` ended with {status}", arguments.join(" ")).into());
        }
        Ok(Self(marks))
    }

    /// Returns the time of `mark`, or zero if the start did not reach it.
    pub(super) fn at(&self, mark: Mark) -> Duration {
        let found = self.0.iter().find(|(found, _)| *found == mark);
        found.map_or(Duration::ZERO, |(_, at)| *at)
    }

    /// Returns the time from `begin` to `end`.
    pub(super) fn between(&self, begin: Mark, end: Mark) -> Duration {
        self.at(end).saturating_sub(self.at(begin))
    }
}

/// Listens to the supervisor of a running start. The supervisor's times count from its own
/// start, which this function derives from the arrival of the readiness event.
fn listen(started: Instant) -> Result<Vec<(Mark, Duration)>> {
    let directories = Directories::from_environment()?;
    let name: SandboxName = NAME.parse()?;
    let socket = StateLayout::new(&directories, &name).control_socket();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut connection = connect(&socket, started).await?;
        let mut marks = Vec::new();
        let mut origin = None;
        loop {
            let Some(event) = connection.next_event().await? else {
                return Err("the supervisor ended without an end event".into());
            };
            let mark = match event.event {
                Event::Preparing => Mark::Files,
                Event::Booting { .. } | Event::Restoring => Mark::Qemu,
                Event::KernelUp => Mark::Kernel,
                Event::SystemdStarting => Mark::Init,
                Event::Ready { .. } => {
                    origin = Some(started.elapsed().saturating_sub(event.elapsed()));
                    Mark::Ready
                }
                Event::Stopping => Mark::Command,
                Event::Ended { .. } => break,
                _ => continue,
            };
            marks.push((mark, event.elapsed()));
        }
        let origin = origin.ok_or("the guest was never ready")?;
        Ok(marks
            .into_iter()
            .map(|(mark, elapsed)| (mark, origin + elapsed))
            .collect())
    })
}

async fn connect(socket: &Path, started: Instant) -> Result<Connection> {
    loop {
        match Connection::open(socket, Request::Subscribe).await {
            Ok(connection) => return Ok(connection),
            Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
