//! Runs one program for the host. Its input, output, signals and terminal size
//! travel as frames on one stream of the conversation.
//!
//! `serve` calls [`run`] for each such stream, `main` calls
//! [`login_shell::run`]. This room uses `channel`, `async_fd`, `egress` and
//! `programs`.

mod accounts;
mod descriptor;
mod hang_up;
pub(crate) mod login_shell;
mod modes;
mod process;
mod session;
mod spawn;
mod terminal;
mod variables;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use sandbox_protocol::agent::frame::{DATA_LIMIT, GuestFrame, HostFrame, INPUT_WINDOW};
use sandbox_protocol::agent::message::{Ended, Execute, Response};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::variables::Places;

use self::descriptor::Descriptor;
use self::process::Process;
use self::spawn::Running;
use crate::channel::{FromHost, ToHost};

/// The agent acknowledges input at the latest after this many bytes.
const ACKNOWLEDGE_AFTER: u32 = INPUT_WINDOW as u32 / 4;

/// How long the output may stay open after the program's end before the agent
/// sends [`Response::Exited`]. Usually both end together, and one frame is
/// enough.
const OUTPUT_GRACE: Duration = Duration::from_millis(20);

/// Runs a program to its end. Hangs it up if the stream ends first.
pub(crate) async fn run(
    request: Execute,
    from_host: &mut FromHost,
    to_host: &mut ToHost,
    places: &Places,
) {
    let mut running = match spawn::start(request, places) {
        Ok(running) => running,
        Err(refusal) => {
            // The host may have closed the stream.
            let _ = to_host
                .send(GuestFrame::Response(Response::Refused(refusal)))
                .await;
            return;
        }
    };
    let (taken, taken_receiver) = watch::channel(0);
    let input = running.input.take();
    let controls = Controls::new(&running, input, taken);
    let report = Report::new(&running, taken_receiver);
    let completed = tokio::select! {
        sent = report.send(to_host) => sent.is_ok(),
        () = controls.follow(from_host) => false,
    };
    if !completed {
        // The program may clean up and print before it ends.
        tokio::spawn(running.hang_up());
    }
}

/// Applies the frames of the host to the program.
struct Controls<'a> {
    process: &'a Process,
    terminal: Option<Arc<Descriptor>>,
    input: Option<Arc<Descriptor>>,
    /// The total input that the program has taken, modulo 2^32.
    taken: watch::Sender<u32>,
}

impl<'a> Controls<'a> {
    fn new(
        running: &'a Running,
        input: Option<Arc<Descriptor>>,
        taken: watch::Sender<u32>,
    ) -> Self {
        Self {
            process: &running.process,
            terminal: running.terminal().cloned(),
            input,
            taken,
        }
    }

    /// Applies frames until the stream ends.
    async fn follow(mut self, from_host: &mut FromHost) {
        let mut pending = Pending::default();
        loop {
            if pending.is_finished() {
                self.input = None;
            }
            tokio::select! {
                frame = from_host.next(), if pending.length <= INPUT_WINDOW => match frame {
                    Some(HostFrame::Input(data)) if self.input.is_some() => pending.push(data),
                    Some(HostFrame::Input(data)) => self.take(data.len()),
                    // A character ends the input of a terminal, not this frame.
                    Some(HostFrame::InputEnd) => pending.complete = self.terminal.is_none(),
                    Some(HostFrame::Resize(size)) => {
                        if let Some(terminal) = &self.terminal {
                            let _ = terminal::resize(&**terminal, size);
                        }
                    }
                    Some(HostFrame::Signal(number)) => self.process.signal(number),
                    // A second request violates the protocol.
                    Some(HostFrame::Request(_)) | None => return,
                },
                written = write(self.input.as_deref(), pending.first()),
                    if pending.length > 0 => match written {
                    Ok(length) => {
                        pending.advance(length);
                        self.take(length);
                    }
                    // The program has closed its input.
                    Err(_) => {
                        self.take(pending.length);
                        pending = Pending::default();
                        self.input = None;
                    }
                },
            }
        }
    }

    fn take(&self, length: usize) {
        let length =
            u32::try_from(length).expect("pending input is at most the input window and one frame");
        self.taken
            .send_modify(|taken| *taken = taken.wrapping_add(length));
    }
}

async fn write(input: Option<&Descriptor>, bytes: &[u8]) -> std::io::Result<usize> {
    match input {
        Some(input) => input.write(bytes).await,
        None => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

/// Input that the program has not yet taken.
#[derive(Default)]
struct Pending {
    pieces: VecDeque<Bytes>,
    length: usize,
    /// Whether the host has sent the end of the input.
    complete: bool,
}

impl Pending {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }

    fn first(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, length: usize) {
        self.length -= length;
        if let Some(piece) = self.pieces.front_mut() {
            piece.advance(length);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.complete && self.length == 0
    }
}

/// Reports the program's output and end to the host.
struct Report<'a> {
    process: &'a Process,
    output: Option<Arc<Descriptor>>,
    error: Option<Arc<Descriptor>>,
    taken: watch::Receiver<u32>,
    reported: u32,
}

impl<'a> Report<'a> {
    fn new(running: &'a Running, taken: watch::Receiver<u32>) -> Self {
        Self {
            process: &running.process,
            output: Some(Arc::clone(&running.output)),
            error: running.error.clone(),
            taken,
            reported: 0,
        }
    }

    /// Sends frames until the program and its output have ended.
    async fn send(mut self, to_host: &mut ToHost) -> std::io::Result<()> {
        to_host
            .send(GuestFrame::Response(Response::Started))
            .await?;
        let mut output = vec![0; DATA_LIMIT];
        let mut error = vec![0; DATA_LIMIT];
        let mut end = End::Pending;
        while self.output.is_some() || self.error.is_some() || !end.is_known() {
            let frame = tokio::select! {
                length = read(self.output.as_deref(), &mut output), if self.output.is_some() => {
                    match length {
                        0 => { self.output = None; continue }
                        length => GuestFrame::Output(Bytes::copy_from_slice(&output[..length])),
                    }
                },
                length = read(self.error.as_deref(), &mut error), if self.error.is_some() => {
                    match length {
                        0 => { self.error = None; continue }
                        length => GuestFrame::ErrorOutput(Bytes::copy_from_slice(&error[..length])),
                    }
                },
                ended = end.next(self.process) => {
                    end = ended?;
                    match end {
                        End::Reported(ended) => GuestFrame::Response(Response::Exited(ended)),
                        _ => continue,
                    }
                },
                // The sender lives as long as this future.
                Ok(()) = self.taken.changed() => match self.acknowledgement() {
                    Some(frame) => frame,
                    None => continue,
                },
            };
            to_host.send(frame).await?;
        }
        let ended = match end {
            End::Seen(ended, _) | End::Reported(ended) => ended,
            End::Pending => self.process.ended().await?,
        };
        to_host
            .send(GuestFrame::Response(Response::Ended(ended)))
            .await
    }

    fn acknowledgement(&mut self) -> Option<GuestFrame> {
        let taken = *self.taken.borrow_and_update();
        let length = taken.wrapping_sub(self.reported);
        if length < ACKNOWLEDGE_AFTER {
            return None;
        }
        self.reported = taken;
        Some(GuestFrame::InputTaken(length))
    }
}

/// The end of the program itself, as opposed to its output.
#[derive(Clone, Copy)]
enum End {
    Pending,
    /// The program has ended. At the instant, the agent reports that even if the
    /// output is still open.
    Seen(Ended, Instant),
    Reported(Ended),
}

impl End {
    fn is_known(self) -> bool {
        !matches!(self, Self::Pending)
    }

    /// Waits for the next state. Cancel safe.
    async fn next(self, process: &Process) -> std::io::Result<Self> {
        match self {
            Self::Pending => {
                let ended = process.ended().await?;
                Ok(Self::Seen(ended, Instant::now() + OUTPUT_GRACE))
            }
            Self::Seen(ended, deadline) => {
                tokio::time::sleep_until(deadline).await;
                Ok(Self::Reported(ended))
            }
            Self::Reported(_) => std::future::pending().await,
        }
    }
}

/// Reads the available bytes; 0 at the end or after an error.
async fn read(descriptor: Option<&Descriptor>, buffer: &mut [u8]) -> usize {
    match descriptor {
        Some(descriptor) => descriptor.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}
