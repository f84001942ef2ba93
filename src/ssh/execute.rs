//! Running one command over a connection, with everything that is connected to it locally.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty};

use super::client::Connection;
use super::ending::{Ending, RemoteSignal, request_of};
use super::error::{SshError, Stream};
use super::pty::PtyRequest;
use crate::host::notices::{Notice, Notices, Termination};
use crate::host::streams::{Input, Output, Streams};
use crate::host::terminal::RawMode;

/// A second Ctrl-C within this time abandons the command.
const IMPATIENCE: Duration = Duration::from_secs(2);

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254 section 5.2).
const EXTENDED_DATA_STDERR: u32 = 1;

impl Connection {
    /// Runs `command` (a line for the user's login shell) with `streams`, with a pseudo-terminal if
    /// `pty` is given, and passes `notices` on: terminations as signals to the command, a resize to
    /// its terminal. A second Ctrl-C within two seconds abandons it.
    ///
    /// Several commands may run over one connection, but one whose output nobody takes then holds
    /// up the others.
    ///
    /// # Errors
    /// When the connection or a local stream fails. A failure of the command is an [`Ending`].
    pub async fn execute(
        &self,
        command: Vec<u8>,
        streams: Streams,
        pty: Option<&PtyRequest>,
        notices: &mut Notices,
    ) -> Result<Ending, SshError> {
        let (mut from_guest, to_guest) = self.session().await?.split();
        let local = |stream| move |source| SshError::LocalStream { stream, source };
        let input = Input::start(streams.input).map_err(local(Stream::Input))?;
        let output = Output::start(streams.output).map_err(local(Stream::Output))?;
        let error = Output::start(streams.error).map_err(local(Stream::Error))?;

        // Before raw mode, which is not what the guest's terminal should be like.
        let modes = pty.map(PtyRequest::modes).unwrap_or_default();
        let raw_mode = match pty.and_then(|pty| pty.keyboard.as_ref()) {
            Some(keyboard) => Some(RawMode::enter(keyboard.as_fd())?),
            None => None,
        };
        if let Some(pty) = pty {
            self.request_pty(pty, &modes, &to_guest, &mut from_guest)
                .await?;
        }
        let started = to_guest.exec(true, command).await.is_ok();
        if !started {
            return Err(self.lost());
        }
        self.confirmed("run a command", &mut from_guest).await?;

        let status = Cell::new(None);
        let receiving = Receiving {
            status: &status,
            output,
            error,
        };
        let receive = receiving.run(self, &mut from_guest);
        let control = async {
            let mut patience = Patience::default();
            loop {
                match notices.next().await {
                    Notice::Termination(termination) => {
                        // Only what the command left behind still holds its output open.
                        if let Some(ending) = status.get() {
                            break ending;
                        }
                        // In raw mode Ctrl-C is a byte for the guest, a signal is meant for us.
                        if raw_mode.is_some() || patience.exhausted(termination, Instant::now()) {
                            break Ending::Abandoned(termination);
                        }
                        // A lost connection is noticed by the receiving side.
                        let _ = to_guest.signal(request_of(termination)).await;
                    }
                    Notice::Resized => resize(pty, &to_guest).await,
                    Notice::Continued => {
                        if let Some(raw_mode) = &raw_mode {
                            raw_mode.renew();
                        }
                        resize(pty, &to_guest).await;
                    }
                }
            }
        };
        tokio::select! {
            ending = receive => ending,
            error = send_input(input, &to_guest) => Err(error),
            ending = control => Ok(ending),
        }
    }

    async fn request_pty(
        &self,
        pty: &PtyRequest,
        modes: &[(Pty, u32)],
        to_guest: &ChannelWriteHalf<Msg>,
        from_guest: &mut ChannelReadHalf,
    ) -> Result<(), SshError> {
        let size = pty.size();
        let asked = to_guest
            .request_pty(
                true,
                &pty.term,
                size.columns.into(),
                size.rows.into(),
                size.pixel_width.into(),
                size.pixel_height.into(),
                modes,
            )
            .await;
        if asked.is_err() {
            return Err(self.lost());
        }
        self.confirmed("open a terminal", from_guest).await
    }

    /// Waits for the answer to the request made last.
    async fn confirmed(
        &self,
        action: &'static str,
        from_guest: &mut ChannelReadHalf,
    ) -> Result<(), SshError> {
        loop {
            match from_guest.wait().await {
                Some(ChannelMsg::Success) => return Ok(()),
                Some(ChannelMsg::Failure | ChannelMsg::Close) => {
                    return Err(SshError::RequestRefused { action });
                }
                Some(_) => {}
                None => return Err(self.lost()),
            }
        }
    }
}

/// Sends the input and its end. Returns only with an error: the end of the input is not the end of
/// the command.
async fn send_input(mut input: Input, to_guest: &ChannelWriteHalf<Msg>) -> SshError {
    loop {
        match input.next().await {
            // What cannot be sent is noticed by the receiving side, which knows why.
            Ok(Some(piece)) => {
                if to_guest.data_bytes(piece).await.is_err() {
                    break;
                }
            }
            Ok(None) => {
                let _ = to_guest.eof().await;
                break;
            }
            Err(source) => {
                return SshError::LocalStream {
                    stream: Stream::Input,
                    source,
                };
            }
        }
    }
    std::future::pending().await
}

async fn resize(pty: Option<&PtyRequest>, to_guest: &ChannelWriteHalf<Msg>) {
    if let Some(pty) = pty {
        let size = pty.size();
        // A lost connection is noticed by the receiving side.
        let _ = to_guest
            .window_change(
                size.columns.into(),
                size.rows.into(),
                size.pixel_width.into(),
                size.pixel_height.into(),
            )
            .await;
    }
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
enum Stop {
    /// The server closed the session, so the output is complete.
    Closed,
    /// The connection is gone.
    Lost,
    /// The output cannot be written any more.
    Local(Stream, io::Error),
}

impl Receiving<'_> {
    async fn run(
        mut self,
        connection: &Connection,
        from_guest: &mut ChannelReadHalf,
    ) -> Result<Ending, SshError> {
        let stop = self.receive(from_guest).await;
        let lost = match stop {
            Stop::Local(stream, source) => return local_failure(stream, source),
            Stop::Lost => true,
            Stop::Closed => false,
        };
        // What arrived is shown, also when the rest is missing.
        for (stream, target) in [
            (Stream::Output, &mut self.output),
            (Stream::Error, &mut self.error),
        ] {
            if let Err(source) = target.finish().await {
                return local_failure(stream, source);
            }
        }
        match self.status.get() {
            _ if lost => Err(connection.lost()),
            Some(ending) => Ok(ending),
            None => Err(SshError::NoExitStatus),
        }
    }

    async fn receive(&mut self, from_guest: &mut ChannelReadHalf) -> Stop {
        loop {
            match from_guest.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    if let Err(error) = self.output.write(Box::new(data)).await {
                        return Stop::Local(Stream::Output, error);
                    }
                }
                Some(ChannelMsg::ExtendedData {
                    data,
                    ext: EXTENDED_DATA_STDERR,
                }) => {
                    if let Err(error) = self.error.write(Box::new(data)).await {
                        return Stop::Local(Stream::Error, error);
                    }
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    let status = u8::try_from(exit_status).unwrap_or(u8::MAX);
                    self.status.set(Some(Ending::Exited(status)));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    let signal = RemoteSignal::of(&signal_name);
                    self.status.set(Some(Ending::Killed(signal)));
                }
                Some(ChannelMsg::Close) => return Stop::Closed,
                Some(_) => {}
                None => return Stop::Lost,
            }
        }
    }
}

/// A reader that went away ends the command, as SIGPIPE would; anything else is an error.
fn local_failure(stream: Stream, source: io::Error) -> Result<Ending, SshError> {
    match source.kind() {
        io::ErrorKind::BrokenPipe => Ok(Ending::OutputClosed),
        _ => Err(SshError::LocalStream { stream, source }),
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
