//! Entering a ready sandbox by SSH.

use std::path::Path;
use std::time::{Duration, Instant};

use super::context::Context;
use super::start::Ready;
use super::{ExitStatus, Outcome};
use crate::cli::CommandOptions;
use crate::host::notices::Notices;
use crate::host::streams::Streams;
use crate::output::Report;
use crate::sandbox::{EndReason, Event, SandboxName};
use crate::session::{GuestCommand, PtyRequest};
use crate::ssh::{Connection, SshError, login_shell};

/// How long a login may take; emulated cryptography takes about a second, and
/// the guest may be busy.
const LOGIN_DEADLINE: Duration = Duration::from_secs(60);

/// How long the supervisor may take to say why a connection broke.
const EXPLANATION: Duration = Duration::from_secs(2);

/// Runs a command in the sandbox; the status is the command's.
pub(super) async fn command(
    ready: &mut Ready,
    options: CommandOptions,
    notices: &mut Notices,
) -> Outcome {
    let command = GuestCommand {
        argv: options.command,
        workdir: Some(Path::new(crate::guest::WORKSPACE).join(options.workdir)),
        environment: options.env,
        user: options.user,
    };
    let line = command.line()?;
    let streams = Streams::inherited()?;
    let pty = match options.tty && !options.no_tty {
        true => Some(PtyRequest::for_streams(&streams, terminal_type())?),
        false => None,
    };
    execute(ready, command.login_user(), line, streams, pty, notices).await
}

/// Opens a login shell of `dev` in the workspace; the status is the shell's.
pub(super) async fn shell(ready: &mut Ready, notices: &mut Notices) -> Outcome {
    let line = login_shell(crate::guest::WORKSPACE.as_ref());
    let streams = Streams::inherited()?;
    let pty = Some(PtyRequest::for_streams(&streams, terminal_type())?);
    execute(ready, "dev", line, streams, pty, notices).await
}

async fn execute(
    ready: &mut Ready,
    user: &str,
    line: Vec<u8>,
    streams: Streams,
    pty: Option<PtyRequest>,
    notices: &mut Notices,
) -> Outcome {
    let endpoint = ready.layout.endpoint(&ready.name, ready.ssh_port, user)?;
    let session = async {
        let connection = Connection::open(&endpoint, Instant::now() + LOGIN_DEADLINE).await?;
        let ending = connection
            .execute(line, streams, pty.as_ref(), notices)
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
async fn explain(ready: &mut Ready, error: SshError) -> Report {
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
