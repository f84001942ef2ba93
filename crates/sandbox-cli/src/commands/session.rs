//! Entering a ready sandbox: through its guest agent, or by SSH where that
//! does not answer or speaks another version.

use std::path::Path;
use std::time::{Duration, Instant};

use super::context::Context;
use super::start::Ready;
use super::{ExitStatus, Outcome};
use crate::cli::CommandOptions;
use crate::output::Report;
use sandbox::agent::{self, AgentError};
use sandbox::session::{Ending, GuestCommand, PtyRequest};
use sandbox::ssh::{self, SshError};
use sandbox_host::notices::Notices;
use sandbox_host::streams::Streams;
use sandbox_protocol::{EndReason, Event};
use sandbox_spec::SandboxName;
use sandbox_spec::guest::WORKSPACE;

/// How long a login may take; emulated cryptography takes about a second, and
/// the guest may be busy.
const LOGIN_DEADLINE: Duration = Duration::from_secs(60);

/// How long the supervisor may take to say why a connection broke.
const EXPLANATION: Duration = Duration::from_secs(2);

/// The user of a shell.
const SHELL_USER: &str = "dev";

/// What is connected to a session here.
struct Local<'a> {
    streams: Streams,
    pty: Option<PtyRequest>,
    notices: &'a mut Notices,
}

impl<'a> Local<'a> {
    fn new(with_terminal: bool, notices: &'a mut Notices) -> Result<Self, Report> {
        let streams = Streams::inherited()?;
        let pty = match with_terminal {
            true => Some(PtyRequest::for_streams(&streams, terminal_type())?),
            false => None,
        };
        Ok(Self {
            streams,
            pty,
            notices,
        })
    }
}

/// Runs a command in the sandbox; the status is the command's.
pub(super) async fn command(
    context: &Context,
    ready: &mut Ready,
    options: CommandOptions,
    notices: &mut Notices,
) -> Outcome {
    let command = GuestCommand {
        argv: options.command,
        workdir: Some(Path::new(WORKSPACE).join(options.workdir)),
        environment: options.env,
        user: options.user,
    };
    let local = Local::new(options.tty && !options.no_tty, notices)?;
    if has_agent(ready) {
        let outcome = by_agent(ready, agent::command(&command), local).await;
        return told(context, ready, outcome).await;
    }
    let line = command.line()?;
    by_ssh(ready, command.login_user(), line, local).await
}

/// Opens a login shell of `dev` in the workspace; the status is the shell's.
pub(super) async fn shell(context: &Context, ready: &mut Ready, notices: &mut Notices) -> Outcome {
    let local = Local::new(true, notices)?;
    if has_agent(ready) {
        let shell = agent::login_shell(SHELL_USER, WORKSPACE.as_ref());
        let outcome = by_agent(ready, shell, local).await;
        return told(context, ready, outcome).await;
    }
    let line = ssh::login_shell(WORKSPACE.as_ref());
    by_ssh(ready, SHELL_USER, line, local).await
}

/// Supervisor and agent are of one version, this command may be of another.
fn has_agent(ready: &Ready) -> bool {
    ready.agent == Some(sandbox_protocol::agent::VERSION)
}

async fn by_agent(
    ready: &Ready,
    execute: sandbox_protocol::agent::message::Execute,
    local: Local<'_>,
) -> Result<Ending, AgentError> {
    let connection = agent::Connection::open(&ready.layout.agent_socket()).await?;
    connection
        .execute(execute, local.streams, local.pty.as_ref(), local.notices)
        .await
}

/// The status of a session through the agent. That there is no such program,
/// or none that can be executed, has the status that a shell gives it.
async fn told(
    context: &Context,
    ready: &mut Ready,
    outcome: Result<Ending, AgentError>,
) -> Outcome {
    let error = match outcome {
        Ok(ending) => return Ok(ExitStatus(ending.exit_code())),
        Err(error) => error,
    };
    let status = match &error {
        AgentError::NoProgram { .. } => ExitStatus::NOT_FOUND,
        AgentError::NotExecutable { .. } => ExitStatus::NOT_EXECUTABLE,
        _ if error.is_loss() => return Err(explain(ready, error).await),
        _ => return Err(error.into()),
    };
    context.printer.report(&error.into());
    Ok(status)
}

async fn by_ssh(ready: &mut Ready, user: &str, line: Vec<u8>, local: Local<'_>) -> Outcome {
    let endpoint = ready.layout.endpoint(&ready.name, ready.ssh_port, user)?;
    let session = async {
        let deadline = Instant::now() + LOGIN_DEADLINE;
        let connection = ssh::Connection::open(&endpoint, deadline).await?;
        let ending = connection
            .execute(line, local.streams, local.pty.as_ref(), local.notices)
            .await?;
        connection.close().await;
        Ok::<_, SshError>(ending)
    };
    match session.await {
        Ok(ending) => Ok(ExitStatus(ending.exit_code())),
        Err(error) => Err(explain(ready, error).await),
    }
}
fn terminal_type() -> String {
    std::env::var("TERM").unwrap_or_else(|_| "xterm".into())
}

/// A connection that broke because the sandbox ended is told as that.
async fn explain(ready: &mut Ready, error: impl Into<Report>) -> Report {
    let until_ended = async {
        let mut failure = None;
        while let Ok(Some(event)) = ready.connection.next_event().await {
            match event.event {
                Event::Failed(found) => failure = Some(Report::from(found)),
                Event::Ended { reason } => return failure.or_else(|| ended(&ready.name, &reason)),
                _ => {}
            }
        }
        failure
    };
    match tokio::time::timeout(EXPLANATION, until_ended).await {
        Ok(Some(report)) => report,
        _ => error.into(),
    }
}

fn ended(name: &SandboxName, reason: &EndReason) -> Option<Report> {
    let how = match reason {
        EndReason::Stopped => "was stopped",
        EndReason::GuestPoweredOff => "powered itself off",
        EndReason::Abandoned => "ended with the command that had started it",
        EndReason::Failed => return None,
    };
    Some(Report::new(
        format!("the sandbox `{name}` {how} during the command"),
        Some("`sandbox --kvm` starts it anew".into()),
    ))
}

/// Waits until an attached sandbox has ended.
pub(super) async fn until_ended(context: &Context, ready: &mut Ready) {
    let mut progress = context.printer.progress();
    while let Ok(Some(event)) = ready.connection.next_event().await {
        match event.event {
            Event::Stopping => progress.step("stopping"),
            Event::Ended { .. } => break,
            _ => {}
        }
    }
    progress.finish();
}
