//! Attaches the local terminal to the serial console.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::error::{AttachError, transfer};
use sandbox::ConsoleError;
use sandbox_host::notices::{Notice, Notices, Termination};
use sandbox_host::streams::{Input, Output, Streams};
use sandbox_host::terminal::RawMode;

/// Ctrl-], the escape of `telnet` and `virsh console`.
const ESCAPE: u8 = 0x1d;

/// The maximum number of bytes per read from the console.
const CHUNK: usize = 16 * 1024;

/// After the end of an input that is not a terminal, the console must be silent this long before
/// this process detaches. So a script sees the answer to its input.
const SILENCE: Duration = Duration::from_secs(1);

/// Why the user left the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The user typed Ctrl-].
    Escape,
    /// The input ended, and is not a terminal.
    InputEnded,
    /// The sandbox ended.
    Closed,
    /// The reader closed our output.
    OutputClosed,
    /// A termination signal arrived.
    Terminated(Termination),
}

impl Left {
    /// Returns the exit status for this process.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Escape | Self::InputEnded | Self::Closed | Self::OutputClosed => 0,
            Self::Terminated(termination) => 128 + termination.number(),
        }
    }
}

impl fmt::Display for Left {
    /// Writes the line for the user.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Escape | Self::InputEnded | Self::OutputClosed | Self::Terminated(_) => {
                "left the console; the sandbox is still running"
            }
            Self::Closed => "the console was closed: the sandbox has stopped",
        })
    }
}

/// A connection to a serial console.
#[derive(Debug)]
pub(crate) struct Console {
    socket: UnixStream,
}

impl Console {
    /// The line for the user before a terminal is attached.
    pub(crate) const WELCOME: &str = "attached to the console: Ctrl-] leaves, Enter shows a prompt";

    /// Connects to the Unix socket at `path`.
    ///
    /// # Errors
    /// Fails if nobody listens there.
    pub(crate) async fn connect(path: &Path) -> Result<Self, AttachError> {
        match UnixStream::connect(path).await {
            Ok(socket) => Ok(Self { socket }),
            Err(source) => Err(ConsoleError::Connect {
                path: path.to_owned(),
                source,
            }
            .into()),
        }
    }

    /// Connects `streams` to the console until the user leaves or the sandbox ends. The console's
    /// output goes to `streams.output`. A terminal at `streams.input` is in raw mode meanwhile.
    ///
    /// # Errors
    /// Fails if the connection or a stream fails.
    pub(crate) async fn attach(
        self,
        streams: Streams,
        notices: &mut Notices,
    ) -> Result<Left, AttachError> {
        // The sending half must stay open: QEMU treats a half-closed connection as closed.
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
) -> Result<Left, AttachError> {
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

/// Sends the input. Stops at Ctrl-] if the input is a terminal.
async fn type_input(
    mut input: Input,
    to_console: &mut OwnedWriteHalf,
    typed: bool,
) -> Result<Left, AttachError> {
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
    // The end of a terminal means that it was closed.
    Ok(if typed {
        Left::Terminated(Termination::Hangup)
    } else {
        Left::InputEnded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use rustix::termios::{LocalModes, tcgetattr};
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use tokio::net::UnixListener;

    fn null() -> OwnedFd {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap()
            .into()
    }

    #[tokio::test]
    async fn attach_with_terminal_is_raw_until_escape() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let pty = openpty(None, None).unwrap();
        let streams = Streams {
            input: pty.slave.try_clone().unwrap(),
            output: null(),
            error: null(),
        };
        let console = Console::connect(&path).await.unwrap();
        let (mut guest, _) = listener.accept().await.unwrap();
        let (_sender, mut notices) = Notices::channel();
        let mut keyboard = File::from(pty.master);
        let user = async {
            keyboard.write_all(b"ls\x03").unwrap();
            let mut typed = [0; 3];
            guest.read_exact(&mut typed).await.unwrap();
            assert_eq!(&typed, b"ls\x03");
            let modes = tcgetattr(&pty.slave).unwrap();
            assert!(!modes.local_modes.contains(LocalModes::ICANON));
            keyboard.write_all(b"x\x1dy").unwrap();
            let mut rest = Vec::new();
            guest.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"x");
        };
        let attached = async {
            let left = console.attach(streams, &mut notices).await;
            assert_eq!(left.unwrap(), Left::Escape);
        };
        tokio::join!(attached, user);
        let modes = tcgetattr(&pty.slave).unwrap();
        assert!(
            modes
                .local_modes
                .contains(LocalModes::ICANON | LocalModes::ECHO)
        );
    }

    #[tokio::test]
    async fn attach_with_pipe_sends_all_bytes_and_shows_answer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let (mut shown, output) = io::pipe().unwrap();
        let streams = Streams {
            input: reader.into(),
            output: output.into(),
            error: null(),
        };
        writer.write_all(b"a\x1db").unwrap();
        drop(writer);
        let console = Console::connect(&path).await.unwrap();
        let (mut guest, _) = listener.accept().await.unwrap();
        let (_sender, mut notices) = Notices::channel();
        let machine = async {
            let mut received = [0; 3];
            guest.read_exact(&mut received).await.unwrap();
            guest.write_all(b"answer to ").await.unwrap();
            guest.write_all(&received).await.unwrap();
        };
        let (left, ()) = tokio::join!(console.attach(streams, &mut notices), machine);
        assert_eq!(left.unwrap(), Left::InputEnded);
        let mut text = Vec::new();
        shown.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"answer to a\x1db");
    }

    #[tokio::test]
    async fn attach_ends_with_sandbox_or_signal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.sock");
        let error = Console::connect(&path).await.unwrap_err();
        assert!(error.hint().is_some());
        let listener = UnixListener::bind(&path).unwrap();
        for closes in [true, false] {
            let (reader, _writer) = io::pipe().unwrap();
            let streams = Streams {
                input: reader.into(),
                output: null(),
                error: null(),
            };
            let console = Console::connect(&path).await.unwrap();
            let (guest, _) = listener.accept().await.unwrap();
            let (sender, mut notices) = Notices::channel();
            let expected = if closes {
                drop(guest);
                Left::Closed
            } else {
                let hangup = Notice::Termination(Termination::Hangup);
                sender.send(hangup).await.unwrap();
                Left::Terminated(Termination::Hangup)
            };
            let left = console.attach(streams, &mut notices).await.unwrap();
            assert_eq!(left, expected);
        }
    }
}
