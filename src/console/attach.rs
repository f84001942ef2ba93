//! A terminal on the serial console.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::error::{ConsoleError, transfer};
use crate::host::notices::{Notice, Notices, Termination};
use crate::host::streams::{Input, Output, Streams};
use crate::host::terminal::RawMode;

/// Ctrl-], as `telnet` and `virsh console` use it.
const ESCAPE: u8 = 0x1d;

/// Bytes read at once from the console.
const CHUNK: usize = 16 * 1024;

/// After the end of an input that is no terminal, the console's answer is waited for until it has
/// been silent for this long.
const SILENCE: Duration = Duration::from_secs(1);

/// Why a console was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The user typed Ctrl-].
    Escape,
    /// The input, which is no terminal, ended.
    InputEnded,
    /// The sandbox ended.
    Closed,
    /// Whoever read our output went away.
    OutputClosed,
    /// A signal told us to end.
    Terminated(Termination),
}

impl Left {
    /// The exit status for this process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Escape | Self::InputEnded | Self::Closed | Self::OutputClosed => 0,
            Self::Terminated(termination) => 128 + termination.number(),
        }
    }
}

impl fmt::Display for Left {
    /// The line to tell the user.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Escape | Self::InputEnded | Self::OutputClosed | Self::Terminated(_) => {
                "left the console; the sandbox still runs"
            }
            Self::Closed => "the console was closed: the sandbox has ended",
        })
    }
}

/// A connection to a serial console.
#[derive(Debug)]
pub struct Console {
    socket: UnixStream,
}

impl Console {
    /// The line to tell the user before a terminal is attached.
    pub const WELCOME: &str = "attached to the console: Ctrl-] leaves, Enter shows a prompt";

    /// Connects to the Unix socket at `path`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(path: &Path) -> Result<Self, ConsoleError> {
        match UnixStream::connect(path).await {
            Ok(socket) => Ok(Self { socket }),
            Err(source) => Err(ConsoleError::Connect {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Connects `streams` with the console until the user leaves or the sandbox ends. The console's
    /// bytes go to `streams.output`; where `streams.input` is a terminal it is in raw mode meanwhile.
    ///
    /// # Errors
    /// When the connection or a stream breaks.
    pub async fn attach(
        self,
        streams: Streams,
        notices: &mut Notices,
    ) -> Result<Left, ConsoleError> {
        // The half for sending stays open to the end: QEMU takes a half-closed connection for a
        // closed one.
        let (from_console, mut to_console) = self.socket.into_split();
        let raw_mode = if streams.input.is_terminal() {
            Some(RawMode::enter(streams.input.as_fd())?)
        } else {
            None
        };
        let input = Input::start(streams.input).map_err(transfer("read the input"))?;
        let output = Output::start(streams.output).map_err(transfer("write the output"))?;
        let (alive, mut activity) = tokio::sync::watch::channel(());
        let typed = type_input(input, &mut to_console, raw_mode.is_some());
        let typing = async {
            let left = typed.await?;
            if left == Left::InputEnded {
                while tokio::time::timeout(SILENCE, activity.changed())
                    .await
                    .is_ok()
                {}
            }
            Ok(left)
        };
        let control = async {
            loop {
                match notices.next().await {
                    Notice::Termination(termination) => break Left::Terminated(termination),
                    Notice::Continued => {
                        if let Some(raw_mode) = &raw_mode {
                            raw_mode.renew();
                        }
                    }
                    Notice::Resized => {}
                }
            }
        };
        tokio::select! {
            left = show_output(from_console, output, &alive) => left,
            left = typing => left,
            left = control => Ok(left),
        }
    }
}

async fn show_output(
    mut from_console: OwnedReadHalf,
    mut output: Output,
    alive: &tokio::sync::watch::Sender<()>,
) -> Result<Left, ConsoleError> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let length = match from_console.read_buf(&mut chunk).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            read => read.map_err(transfer("read from the console"))?,
        };
        let written = if length == 0 {
            output.finish().await.map(|()| Some(Left::Closed))
        } else {
            alive.send_replace(());
            output.write(Box::new(chunk)).await.map(|()| None)
        };
        match written {
            Ok(None) => {}
            Ok(Some(left)) => return Ok(left),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Left::OutputClosed);
            }
            Err(error) => return Err(transfer("write the output")(error)),
        }
    }
}

/// Sends the input, up to Ctrl-] if a user types it.
async fn type_input(
    mut input: Input,
    to_console: &mut OwnedWriteHalf,
    typed: bool,
) -> Result<Left, ConsoleError> {
    while let Some(piece) = input.next().await.map_err(transfer("read the input"))? {
        let escape = piece.iter().position(|&byte| typed && byte == ESCAPE);
        let sent = to_console
            .write_all(&piece[..escape.unwrap_or(piece.len())])
            .await;
        match sent {
            Ok(()) if escape.is_some() => return Ok(Left::Escape),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Left::Closed),
            Err(error) => return Err(transfer("write to the console")(error)),
        }
    }
    // A terminal that ends has been closed.
    Ok(if typed {
        Left::Terminated(Termination::Hangup)
    } else {
        Left::InputEnded
    })
}
