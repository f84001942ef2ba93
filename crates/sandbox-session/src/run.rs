//! The event loop of one command, from its start to its end.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::ending::Ending;
use super::error::{SessionError, Stream};
use super::pty::PtyRequest;
use sandbox_host::notices::{Notice, Notices, Termination};
use sandbox_host::streams::{Input, Output, Piece, Streams};
use sandbox_host::terminal::{RawMode, WindowSize};

/// A second Ctrl-C within this time abandons the command.
const IMPATIENCE: Duration = Duration::from_secs(2);

/// The sending half of a command. It ignores errors, since [`FromGuest`] reports their reason.
pub(crate) trait ToGuest {
    /// Sends input as soon as there is room. Returns false if nothing more can be sent.
    async fn input(&self, piece: Vec<u8>) -> bool;
    /// Sends the end of the input.
    async fn end_input(&self);
    /// Sends a termination as a signal. Does not wait for input that the command has not read.
    async fn signal(&self, termination: Termination);
    /// Resizes the command's terminal. Does not wait for input that the command has not read.
    async fn resize(&self, size: WindowSize);
}

/// An event of a command.
pub(crate) enum Arrival {
    /// Output.
    Output(Piece),
    /// Error output.
    Error(Piece),
    /// The command ended. Processes that it left behind may still write output.
    Exited(Ending),
    /// The command ended, and its output is complete.
    Complete(Ending),
}

/// The receiving half of a command.
pub(crate) trait FromGuest {
    /// The error of the transport or of a local stream.
    type Error: From<SessionError>;
    /// Returns the next event. It is not called after an error or [`Arrival::Complete`].
    async fn next(&mut self) -> Result<Arrival, Self::Error>;
}

/// Runs the command of `start` with `streams`, and with a pseudo-terminal if `pty` is given.
/// Forwards terminations in `notices` as signals to the command, and resizes to its terminal. A
/// second Ctrl-C within two seconds abandons the command, as does any termination before it starts.
///
/// # Errors
/// Fails if the connection or a local stream fails. A failure of the command is an [`Ending`].
pub(crate) async fn run<T: ToGuest, F: FromGuest>(
    start: impl Future<Output = Result<(T, F), F::Error>>,
    streams: Streams,
    pty: Option<&PtyRequest>,
    notices: &mut Notices,
) -> Result<Ending, F::Error> {
    let mut resized = false;
    let (to_guest, from_guest) = tokio::select! {
        started = start => started?,
        termination = next_termination(notices, &mut resized) => return Ok(Ending::Abandoned(termination)),
    };
    let raw_mode = match pty.and_then(|pty| pty.keyboard.as_ref()) {
        Some(keyboard) => Some(RawMode::enter(keyboard.as_fd()).map_err(SessionError::from)?),
        None => None,
    };
    let local = |stream| move |source| SessionError::LocalStream { stream, source };
    let input = Input::start(streams.input).map_err(local(Stream::Input))?;
    let output = Output::start(streams.output).map_err(local(Stream::Output))?;
    let error = Output::start(streams.error).map_err(local(Stream::Error))?;

    let status = Cell::new(None);
    let receiving = Receiving {
        status: &status,
        output,
        error,
    };
    let (orders, mut ordered) = mpsc::unbounded_channel();
    if resized {
        // Cannot fail: the receiver outlives the sender.
        let _ = orders.send(Order::Resize);
    }
    let control = async {
        let mut patience = Patience::default();
        loop {
            let order = match notices.next().await {
                Notice::Termination(termination) => {
                    // The command has exited. Only processes that it left behind hold its output
                    // open.
                    if let Some(ending) = status.get() {
                        break ending;
                    }
                    // In raw mode, Ctrl-C is a byte for the guest. So a signal is for this process.
                    if raw_mode.is_some() || patience.exhausted(termination, Instant::now()) {
                        break Ending::Abandoned(termination);
                    }
                    Order::Signal(termination)
                }
                Notice::Resized => Order::Resize,
                Notice::Continued => {
                    if let Some(raw_mode) = &raw_mode {
                        raw_mode.renew();
                    }
                    Order::Resize
                }
            };
            // Cannot fail: the receiver outlives the sender.
            let _ = orders.send(order);
        }
    };
    // Not part of `control`: the guest may accept orders only while this side reads its output.
    let deliver = async {
        while let Some(order) = ordered.recv().await {
            match (order, pty) {
                (Order::Signal(termination), _) => to_guest.signal(termination).await,
                (Order::Resize, Some(pty)) => to_guest.resize(pty.size()).await,
                (Order::Resize, None) => {}
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        ending = receiving.run(from_guest) => ending,
        error = send_input(input, &to_guest) => Err(error.into()),
        ending = control => Ok(ending),
        ending = deliver => ending,
    }
}

/// A message to the guest.
enum Order {
    Signal(Termination),
    Resize,
}

/// Waits for a termination. Sets `resized` if the terminal is resized meanwhile.
async fn next_termination(notices: &mut Notices, resized: &mut bool) -> Termination {
    loop {
        match notices.next().await {
            Notice::Termination(termination) => return termination,
            Notice::Resized | Notice::Continued => *resized = true,
        }
    }
}

/// Sends the input and its end. Returns only an error, since a command may outlive its input.
async fn send_input(mut input: Input, to_guest: &impl ToGuest) -> SessionError {
    loop {
        match input.next().await {
            Ok(Some(piece)) => {
                if !to_guest.input(piece).await {
                    break;
                }
            }
            Ok(None) => {
                to_guest.end_input().await;
                break;
            }
            Err(source) => {
                return SessionError::LocalStream {
                    stream: Stream::Input,
                    source,
                };
            }
        }
    }
    std::future::pending().await
}

/// Detects a second Ctrl-C shortly after the first.
#[derive(Debug, Default)]
struct Patience {
    interrupted: Option<Instant>,
}

impl Patience {
    /// Returns whether this termination abandons the command.
    fn exhausted(&mut self, termination: Termination, now: Instant) -> bool {
        if termination != Termination::Interrupt {
            return false;
        }
        let last = self.interrupted.replace(now);
        last.is_some_and(|last| now.duration_since(last) < IMPATIENCE)
    }
}

/// The local outputs of a command, and its ending once it is known.
struct Receiving<'a> {
    status: &'a Cell<Option<Ending>>,
    output: Output,
    error: Output,
}

/// Why receiving stopped.
enum Stop<E> {
    /// The output is complete.
    Complete(Ending),
    /// The rest of the output is lost.
    Lost(E),
    /// A local stream failed.
    Local(Stream, io::Error),
}

impl Receiving<'_> {
    async fn run<F: FromGuest>(mut self, from_guest: F) -> Result<Ending, F::Error> {
        let ending = match self.receive(from_guest).await {
            Stop::Local(stream, source) => return Ok(local_failure(stream, source)?),
            Stop::Lost(error) => Err(error),
            Stop::Complete(ending) => Ok(ending),
        };
        // Flush the output that arrived, also if the rest is lost.
        for (stream, target) in [
            (Stream::Output, &mut self.output),
            (Stream::Error, &mut self.error),
        ] {
            if let Err(source) = target.finish().await {
                return Ok(local_failure(stream, source)?);
            }
        }
        ending
    }

    async fn receive<F: FromGuest>(&mut self, mut from_guest: F) -> Stop<F::Error> {
        loop {
            match from_guest.next().await {
                Ok(Arrival::Output(piece)) => {
                    if let Err(error) = self.output.write(piece).await {
                        return Stop::Local(Stream::Output, error);
                    }
                }
                Ok(Arrival::Error(piece)) => {
                    if let Err(error) = self.error.write(piece).await {
                        return Stop::Local(Stream::Error, error);
                    }
                }
                Ok(Arrival::Exited(ending)) => self.status.set(Some(ending)),
                Ok(Arrival::Complete(ending)) => return Stop::Complete(ending),
                Err(error) => return Stop::Lost(error),
            }
        }
    }
}

/// Maps a failed write: a closed pipe ends the command, as SIGPIPE would. Others are errors.
fn local_failure(stream: Stream, source: io::Error) -> Result<Ending, SessionError> {
    match source.kind() {
        io::ErrorKind::BrokenPipe => Ok(Ending::OutputClosed),
        _ => Err(SessionError::LocalStream { stream, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_with_second_interrupt_within_two_seconds_is_exhausted() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::default();
        assert!(!patience.exhausted(Termination::Interrupt, after(0)));
        assert!(!patience.exhausted(Termination::Interrupt, after(3)));
        assert!(!patience.exhausted(Termination::Terminate, after(4)));
        assert!(patience.exhausted(Termination::Interrupt, after(4)));
    }
}
