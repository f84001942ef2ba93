//! Attending one command from its start to its end.

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

/// The way to a command. What cannot be sent is no error here: the way back knows why.
pub(crate) trait ToGuest {
    /// Sends input, as soon as there is room for it. False when nothing can be sent any more.
    async fn input(&self, piece: Vec<u8>) -> bool;
    /// Says that there is no more input.
    async fn end_input(&self);
    /// Passes a termination on. Waits for no input that the command does not take.
    async fn signal(&self, termination: Termination);
    /// Gives the command's terminal another size; waits no more than `signal` does.
    async fn resize(&self, size: WindowSize);
}

/// What comes from a command.
pub(crate) enum Arrival {
    /// Output.
    Output(Piece),
    /// Error output.
    Error(Piece),
    /// It ended, but what it left behind may still write to its output.
    Exited(Ending),
    /// It ended, and its output is complete.
    Complete(Ending),
}

/// The way back from a command.
pub(crate) trait FromGuest {
    /// What can go wrong there, or here.
    type Error: From<SessionError>;
    /// What comes next. Never called again after an error or the end.
    async fn next(&mut self) -> Result<Arrival, Self::Error>;
}

/// Runs the command that `start` starts with `streams`, with a pseudo-terminal if `pty` is given,
/// and passes `notices` on: terminations as signals to the command, a resize to its terminal. A
/// second Ctrl-C within two seconds abandons it, as does any termination before it has started.
///
/// # Errors
/// When the way to the guest or a local stream fails. A failure of the command is an [`Ending`].
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
        // The receiver lives as long as this does.
        let _ = orders.send(Order::Resize);
    }
    let control = async {
        let mut patience = Patience::default();
        loop {
            let order = match notices.next().await {
                Notice::Termination(termination) => {
                    // Only what the command left behind still holds its output open.
                    if let Some(ending) = status.get() {
                        break ending;
                    }
                    // In raw mode Ctrl-C is a byte for the guest, a signal is meant for us.
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
            // The receiver lives as long as this does.
            let _ = orders.send(order);
        }
    };
    // Apart from `control`, since the guest may take orders only while its output is taken.
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

/// What to tell the guest.
enum Order {
    Signal(Termination),
    Resize,
}

/// Waits for a termination and notes whether the terminal was resized meanwhile.
async fn next_termination(notices: &mut Notices, resized: &mut bool) -> Termination {
    loop {
        match notices.next().await {
            Notice::Termination(termination) => return termination,
            Notice::Resized | Notice::Continued => *resized = true,
        }
    }
}

/// Sends the input and its end. Returns only with an error: the end of the input is not the end of
/// the command.
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

/// How long the user is willing to wait for a command that was told to end.
#[derive(Debug, Default)]
struct Patience {
    interrupted: Option<Instant>,
}

impl Patience {
    /// Whether this termination is the one too many.
    fn exhausted(&mut self, termination: Termination, now: Instant) -> bool {
        if termination != Termination::Interrupt {
            return false;
        }
        let last = self.interrupted.replace(now);
        last.is_some_and(|last| now.duration_since(last) < IMPATIENCE)
    }
}

/// Where the output of a command goes, and how it ended, once that is known.
struct Receiving<'a> {
    status: &'a Cell<Option<Ending>>,
    output: Output,
    error: Output,
}

/// Why taking the output of a command stopped.
enum Stop<E> {
    /// The output is complete.
    Complete(Ending),
    /// The rest of it is lost.
    Lost(E),
    /// The output cannot be written any more.
    Local(Stream, io::Error),
}

impl Receiving<'_> {
    async fn run<F: FromGuest>(mut self, from_guest: F) -> Result<Ending, F::Error> {
        let ending = match self.receive(from_guest).await {
            Stop::Local(stream, source) => return Ok(local_failure(stream, source)?),
            Stop::Lost(error) => Err(error),
            Stop::Complete(ending) => Ok(ending),
        };
        // What arrived is shown, also when the rest is missing.
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

/// A reader that went away ends the command, as SIGPIPE would; anything else is an error.
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
    fn only_a_quick_second_interrupt_abandons() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::default();
        assert!(!patience.exhausted(Termination::Interrupt, after(0)));
        assert!(!patience.exhausted(Termination::Interrupt, after(3)));
        assert!(!patience.exhausted(Termination::Terminate, after(4)));
        assert!(patience.exhausted(Termination::Interrupt, after(4)));
    }
}
