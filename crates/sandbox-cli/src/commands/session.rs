//! Sessions in a ready sandbox: through its guest agent, or through SSH if the agent does not
//! answer or uses another protocol version.

#[cfg(feature = "ssh")]
mod by_ssh;
#[cfg(not(feature = "ssh"))]
#[path = "session/without_ssh.rs"]
mod by_ssh;

use std::path::Path;
use std::time::Duration;

use sandbox::{ErrorKind, Exec, Sandbox, SandboxBuilder, WORKSPACE};
use sandbox_host::notices::Notices;
use sandbox_host::streams::Streams;

use super::context::Context;
use super::{ExitStatus, Outcome};
use crate::cli::CommandOptions;
use crate::output::Report;
use sandbox_session::{GuestCommand, PtyRequest, SessionFailure};

/// The time limit for the supervisor to report why a connection broke.
const EXPLANATION: Duration = Duration::from_secs(2);

/// The user of a shell.
#[cfg(feature = "ssh")]
const SHELL_USER: &str = "dev";

/// Authorizes the keys of the user's `ssh-agent`.
pub(super) async fn with_agent_keys(builder: SandboxBuilder) -> SandboxBuilder {
    let keys = by_ssh::agent_keys().await;
    keys.into_iter()
        .fold(builder, SandboxBuilder::authorized_key)
}

/// The host's side of a session.
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

/// Runs a command in the sandbox, and returns its status.
pub(super) async fn command(
    context: &Context,
    sandbox: &mut Sandbox,
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
    if sandbox.has_agent() {
        let exec = command.exec(sandbox);
        return by_agent(context, sandbox, exec, local).await;
    }
    by_ssh::command(sandbox, &command, local).await
}

/// Opens a login shell of `dev` in the workspace, and returns its status.
pub(super) async fn shell(
    context: &Context,
    mut sandbox: Sandbox,
    notices: &mut Notices,
) -> Outcome {
    let local = Local::new(true, notices)?;
    if sandbox.has_agent() {
        let shell = sandbox.shell();
        return by_agent(context, &mut sandbox, shell, local).await;
    }
    by_ssh::shell(&mut sandbox, local).await
}

/// Runs a session through the agent. A missing program and one that cannot be executed have the
/// statuses of a shell.
async fn by_agent(
    context: &Context,
    sandbox: &mut Sandbox,
    exec: Exec,
    local: Local<'_>,
) -> Outcome {
    let outcome =
        sandbox_session::execute(exec, local.streams, local.pty.as_ref(), local.notices).await;
    let error = match outcome {
        Ok(ending) => return Ok(ExitStatus(ending.exit_code())),
        Err(SessionFailure::Local(error)) => return Err(Report::of(&error, error.hint())),
        Err(SessionFailure::Sandbox(error)) => error,
    };
    let status = match error.kind() {
        ErrorKind::NotFound => ExitStatus::NOT_FOUND,
        ErrorKind::NotExecutable if error.is_about_program() => ExitStatus::NOT_EXECUTABLE,
        ErrorKind::Disconnected => return Err(explain(sandbox, error).await),
        _ => return Err(error.into()),
    };
    context.printer.report(&error.into());
    Ok(status)
}

fn terminal_type() -> String {
    std::env::var("TERM").unwrap_or_else(|_| "xterm".into())
}

/// Returns why the sandbox ended, if that broke the connection. Otherwise returns `error`.
async fn explain(sandbox: &mut Sandbox, error: impl Into<Report>) -> Report {
    match tokio::time::timeout(EXPLANATION, sandbox.ended()).await {
        Ok(Some(ended)) => ended.into(),
        _ => error.into(),
    }
}
