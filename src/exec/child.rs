//! A program that runs in the guest.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use sandbox_protocol::agent::frame::{GuestFrame, HostFrame};
use sandbox_protocol::agent::message::{Ended, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::credit::Credit;
use super::status::ExitStatus;
use super::terminal::TerminalSize;
use crate::agent::{AgentError, FromAgent, ToAgent};
use crate::error::Error;

/// The maximum input in one frame, in bytes.
const INPUT_PIECE: usize = 32 << 10;

/// The size of the input buffer, in bytes.
const INPUT_BUFFER: usize = 64 << 10;

/// The number of output frames that are buffered for a slow reader. Then the guest waits.
const PIECES_IN_FLIGHT: usize = 4;

/// SIGKILL (signal(7)).
const KILL: u8 = 9;

type Sender = Arc<Mutex<ToAgent<OwnedWriteHalf>>>;

/// A running program in the guest. Dropping it hangs up the program, like closing its terminal.
///
/// As with pipes, a program blocks on output that nobody reads. Read [`stdout`](Self::stdout) and
/// [`stderr`](Self::stderr), or set them to `None` to discard the output.
#[derive(Debug)]
#[non_exhaustive]
pub struct Child {
    /// The program's input. Dropping it ends the input.
    pub stdin: Option<ChildStdin>,
    /// The program's output.
    pub stdout: Option<ChildStdout>,
    /// The program's error output. Ends at once if the program has a terminal.
    pub stderr: Option<ChildStderr>,
    sender: Sender,
    exited: oneshot::Receiver<Result<ExitStatus, AgentError>>,
    status: Option<ExitStatus>,
    tasks: [JoinHandle<()>; 2],
    deadline: Option<(Instant, Duration)>,
}

impl Child {
    pub(super) fn new(
        frames: FromAgent<OwnedReadHalf>,
        to_agent: ToAgent<OwnedWriteHalf>,
        limit: Option<Duration>,
    ) -> Self {
        let sender = Arc::new(Mutex::new(to_agent));
        let credit = Arc::new(Credit::default());
        let (stdin, input) = tokio::io::duplex(INPUT_BUFFER);
        let (output, stdout) = mpsc::channel(PIECES_IN_FLIGHT);
        let (error_output, stderr) = mpsc::channel(PIECES_IN_FLIGHT);
        let (exit, exited) = oneshot::channel();
        let receiving = Receiving {
            frames,
            credit: Arc::clone(&credit),
            output,
            error_output,
            exit: Some(exit),
        };
        let tasks = [
            tokio::spawn(receiving.run()),
            tokio::spawn(send_input(input, Arc::clone(&sender), credit)),
        ];
        Self {
            stdin: Some(ChildStdin(stdin)),
            stdout: Some(ChildStdout(Pieces::new(stdout))),
            stderr: Some(ChildStderr(Pieces::new(stderr))),
            sender,
            exited,
            status: None,
            tasks,
            deadline: limit.map(|limit| (Instant::now() + limit, limit)),
        }
    }

    /// Waits until the program has exited. Its children may still write to its output. Safe to
    /// cancel.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) at the deadline, which kills the
    /// program; [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) if the connection
    /// breaks.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let exited = match self.deadline {
            None => (&mut self.exited).await,
            Some((deadline, limit)) => match timeout_at(deadline, &mut self.exited).await {
                Ok(exited) => exited,
                Err(_) => {
                    self.signal(KILL).await?;
                    return Err(Error::timeout(limit));
                }
            },
        };
        let status = exited.unwrap_or(Err(AgentError::Lost(None)))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Returns the reason of missing output. A reader's error only states that output is missing.
    pub async fn failure(&mut self) -> Error {
        match self.wait().await {
            Err(error) => error,
            Ok(_) => AgentError::Lost(None).into(),
        }
    }

    /// Returns a handle that sends signals and sizes while [`wait`](Self::wait) borrows the
    /// program.
    pub fn control(&self) -> ChildControl {
        ChildControl(Arc::downgrade(&self.sender))
    }

    /// Sends a signal to the program and its children, by its number on Linux (signal(7)).
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) if the connection is broken.
    pub async fn signal(&self, number: u8) -> Result<(), Error> {
        self.control().signal(number).await
    }

    /// Kills the program with SIGKILL.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn kill(&self) -> Result<(), Error> {
        self.signal(KILL).await
    }

    /// Resizes the program's terminal.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        self.control().resize(size).await
    }
}

/// A handle that sends signals and sizes to a [`Child`].
#[derive(Debug, Clone)]
pub struct ChildControl(Weak<Mutex<ToAgent<OwnedWriteHalf>>>);

impl ChildControl {
    /// As [`Child::signal`].
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) if the connection is broken
    /// or the [`Child`] was dropped.
    pub async fn signal(&self, number: u8) -> Result<(), Error> {
        self.send(HostFrame::Signal(number)).await
    }

    /// As [`Child::resize`].
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        self.send(HostFrame::Resize(size.into_message())).await
    }

    async fn send(&self, frame: HostFrame) -> Result<(), Error> {
        let sender = self.0.upgrade().ok_or(AgentError::Lost(None))?;
        let sent = sender.lock().await.send(&frame).await;
        sent.map_err(|error| AgentError::Lost(Some(error)).into())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The tasks own both halves of the stream. When it closes, the agent hangs up the program.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Sends the program's input and its end.
async fn send_input(mut input: DuplexStream, sender: Sender, credit: Arc<Credit>) {
    let mut buffer = vec![0; INPUT_PIECE];
    loop {
        let length = input.read(&mut buffer).await.unwrap_or_default();
        let frame = match buffer.get(..length) {
            Some(piece) if length > 0 => {
                if !credit.take(length).await {
                    return;
                }
                HostFrame::Input(piece.to_vec().into())
            }
            _ => HostFrame::InputEnd,
        };
        let sent = sender.lock().await.send(&frame).await;
        // The receiving task reports a broken stream.
        if sent.is_err() || length == 0 {
            return;
        }
    }
}

/// The task that receives a program's output and status.
struct Receiving {
    frames: FromAgent<OwnedReadHalf>,
    credit: Arc<Credit>,
    output: mpsc::Sender<io::Result<Bytes>>,
    error_output: mpsc::Sender<io::Result<Bytes>>,
    exit: Option<oneshot::Sender<Result<ExitStatus, AgentError>>>,
}

impl Receiving {
    async fn run(mut self) {
        let Err(error) = self.receive().await else {
            return;
        };
        // Readers get a general error. `wait` returns the reason.
        let lost = || {
            Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                error.to_string(),
            ))
        };
        let (output, error_output) = (lost(), lost());
        self.exit(Err(error));
        let _ = tokio::join!(
            self.output.send(output),
            self.error_output.send(error_output)
        );
    }

    async fn receive(&mut self) -> Result<(), AgentError> {
        loop {
            match self.frames.next().await? {
                // Discards output without a reader.
                GuestFrame::Output(bytes) => {
                    let _ = self.output.send(Ok(bytes)).await;
                }
                GuestFrame::ErrorOutput(bytes) => {
                    let _ = self.error_output.send(Ok(bytes)).await;
                }
                GuestFrame::InputTaken(length) => {
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    self.credit.give_back(length);
                }
                GuestFrame::Response(Response::Exited(ended)) => self.exit(Ok(status(ended))),
                GuestFrame::Response(Response::Ended(ended)) => {
                    self.exit(Ok(status(ended)));
                    return Ok(());
                }
                GuestFrame::Response(Response::Refused(refusal)) => {
                    return Err(AgentError::refused(refusal));
                }
                GuestFrame::Response(_) => return Err(AgentError::Unexpected),
            }
        }
    }

    fn exit(&mut self, result: Result<ExitStatus, AgentError>) {
        if let Some(exit) = self.exit.take() {
            let _ = exit.send(result);
        }
    }
}

fn status(ended: Ended) -> ExitStatus {
    match ended {
        Ended::Exited(status) => ExitStatus::exited(status),
        Ended::Killed(signal) => ExitStatus::killed(signal),
    }
}

/// A stream of output.
#[derive(Debug)]
struct Pieces {
    arriving: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Pieces {
    fn new(arriving: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            arriving,
            rest: Bytes::new(),
        }
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        self.arriving.recv().await.transpose()
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.arriving.poll_recv(context)) {
                Some(piece) => self.rest = piece?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

macro_rules! output {
    ($($(#[$documentation:meta])* $name:ident;)*) => {
        $($(#[$documentation])*
        #[derive(Debug)]
        pub struct $name(Pieces);

        impl $name {
            /// Returns the next bytes as they arrive; `None` at the end. Safe to cancel.
            ///
            /// # Errors
            /// Fails if the connection breaks.
            pub async fn next(&mut self) -> io::Result<Option<impl AsRef<[u8]> + Send + use<>>> {
                self.0.next().await
            }
        }

        impl AsyncRead for $name {
            fn poll_read(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                self.0.poll_read(context, buffer)
            }
        })*
    };
}

output! {
    /// The output of a [`Child`].
    ChildStdout;
    /// The error output of a [`Child`].
    ChildStderr;
}

/// The input of a [`Child`]. Dropping it, or shutting it down, ends the input.
#[derive(Debug)]
pub struct ChildStdin(DuplexStream);

impl AsyncWrite for ChildStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
