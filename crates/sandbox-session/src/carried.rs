//! Commands through the library, which runs them through the guest agent.

use sandbox::inside::Connection;
use sandbox::{Child, ChildStderr, ChildStdin, ChildStdout, Exec, ExitStatus};
use sandbox_host::notices::{Notices, Termination};
use sandbox_host::streams::Streams;
use sandbox_host::terminal::WindowSize;
use sandbox_protocol::agent::message::Execute;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use super::{
    Arrival, Ending, FromGuest, PtyRequest, RemoteSignal, SessionError, SessionFuture, ToGuest, run,
};

/// Errors of a session.
#[derive(Debug)]
pub enum SessionFailure {
    /// A local stream or terminal failed.
    Local(SessionError),
    /// The connection or the sandbox failed.
    Sandbox(sandbox::Error),
}

impl From<SessionError> for SessionFailure {
    fn from(error: SessionError) -> Self {
        Self::Local(error)
    }
}

impl From<sandbox::Error> for SessionFailure {
    fn from(error: sandbox::Error) -> Self {
        Self::Sandbox(error)
    }
}

/// Runs a command with `streams`, and with a pseudo-terminal if `pty` is given. Forwards
/// terminations in `notices` as signals to the command, and resizes to its terminal. A second
/// Ctrl-C within two seconds abandons the command.
///
/// # Errors
/// Fails if the command cannot be started, or if the connection or a local stream fails.
pub fn execute<'a>(
    exec: Exec,
    streams: Streams,
    pty: Option<&'a PtyRequest>,
    notices: &'a mut Notices,
) -> SessionFuture<'a, Result<Ending, SessionFailure>> {
    let exec = match pty {
        Some(pty) => exec.terminal(pty.terminal()),
        None => exec,
    };
    let start = async { Ok(halves(exec.spawn().await?)) };
    Box::pin(attend(start, streams, pty, notices))
}

/// Runs a command over a connection to the agent of a test.
#[doc(hidden)]
pub async fn execute_over(
    connection: Connection,
    mut execute: Execute,
    streams: Streams,
    pty: Option<&PtyRequest>,
    notices: &mut Notices,
) -> Result<Ending, SessionFailure> {
    execute.terminal = pty.map(|pty| pty.terminal().into_message());
    let start = async {
        let child = connection.start(execute, None).await;
        Ok(halves(child.map_err(sandbox::Error::from)?))
    };
    attend(start, streams, pty, notices).await
}

async fn attend(
    start: impl Future<Output = Result<(Sending, Receiving), SessionFailure>>,
    streams: Streams,
    pty: Option<&PtyRequest>,
    notices: &mut Notices,
) -> Result<Ending, SessionFailure> {
    run(start, streams, pty, notices).await
}

fn halves(mut child: Child) -> (Sending, Receiving) {
    let sending = Sending {
        stdin: Mutex::new(child.stdin.take()),
        control: child.control(),
    };
    let receiving = Receiving {
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
        child,
        status: None,
    };
    (sending, receiving)
}

/// The sending half of a command. The receiving half reports a broken connection.
struct Sending {
    stdin: Mutex<Option<ChildStdin>>,
    control: sandbox::ChildControl,
}

impl ToGuest for Sending {
    async fn input(&self, piece: Vec<u8>) -> bool {
        match &mut *self.stdin.lock().await {
            Some(stdin) => stdin.write_all(&piece).await.is_ok(),
            None => false,
        }
    }

    async fn end_input(&self) {
        *self.stdin.lock().await = None;
    }

    async fn signal(&self, termination: Termination) {
        let _ = self.control.signal(termination.number()).await;
    }

    async fn resize(&self, size: WindowSize) {
        let _ = self.control.resize(super::pty::terminal_size(size)).await;
    }
}

/// The receiving half of a command.
struct Receiving {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    status: Option<ExitStatus>,
}

impl FromGuest for Receiving {
    type Error = SessionFailure;

    async fn next(&mut self) -> Result<Arrival, SessionFailure> {
        loop {
            if self.stdout.is_none()
                && self.stderr.is_none()
                && let Some(status) = self.status
            {
                return Ok(Arrival::Complete(ending(status)));
            }
            tokio::select! {
                // Output that has arrived comes before the exit status.
                biased;
                piece = next_output(&mut self.stdout) => match piece {
                    Ok(Some(piece)) => return Ok(Arrival::Output(Box::new(piece))),
                    Ok(None) => self.stdout = None,
                    Err(_) => return Err(self.lost().await),
                },
                piece = next_error(&mut self.stderr) => match piece {
                    Ok(Some(piece)) => return Ok(Arrival::Error(Box::new(piece))),
                    Ok(None) => self.stderr = None,
                    Err(_) => return Err(self.lost().await),
                },
                status = self.child.wait(), if self.status.is_none() => {
                    let status = status?;
                    self.status = Some(status);
                    return Ok(Arrival::Exited(ending(status)));
                }
            }
        }
    }
}

impl Receiving {
    /// Returns why output is missing.
    async fn lost(&mut self) -> SessionFailure {
        self.child.failure().await.into()
    }
}

async fn next_output(
    stream: &mut Option<ChildStdout>,
) -> std::io::Result<Option<impl AsRef<[u8]> + Send + use<>>> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

async fn next_error(
    stream: &mut Option<ChildStderr>,
) -> std::io::Result<Option<impl AsRef<[u8]> + Send + use<>>> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, Some(signal)) => Ending::Killed(RemoteSignal::numbered(signal)),
        (None, None) => Ending::Killed(RemoteSignal::UNKNOWN),
    }
}
