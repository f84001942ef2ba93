//! Standard input and output in asynchronous code, without side effects on whoever shares them.
//!
//! A descriptor inherited from a shell is shared with other processes, so it must not be made
//! non-blocking, and regular files cannot be polled at all. Each direction therefore has a thread
//! of its own which does blocking calls; the threads are detached, so that one which is stuck in a
//! call never holds up the end of the process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, oneshot};

/// The largest piece read at once, in bytes: one SSH data packet (RFC 4253 section 6.1).
const CHUNK: usize = 32 * 1024;

/// Pieces that wait for a slow writer before the producer has to wait.
const PIECES_IN_FLIGHT: usize = 4;

/// The three standard streams of a command.
#[derive(Debug)]
pub struct Streams {
    /// Where the command's input comes from.
    pub input: OwnedFd,
    /// Where its output goes.
    pub output: OwnedFd,
    /// Where its error output goes.
    pub error: OwnedFd,
}

impl Streams {
    /// Duplicates of this process's own streams.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self {
            input: io::stdin().as_fd().try_clone_to_owned()?,
            output: io::stdout().as_fd().try_clone_to_owned()?,
            error: io::stderr().as_fd().try_clone_to_owned()?,
        })
    }
}

/// Reads a descriptor piece by piece, each only when somebody asks for it.
///
/// After it is dropped nothing more is taken from the descriptor, apart from a read that is already
/// under way.
#[derive(Debug)]
pub struct Input {
    demand: mpsc::Sender<()>,
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    asked: bool,
    // Closing it wakes the thread out of its wait for input.
    _wake: io::PipeWriter,
}

impl Input {
    /// Starts to serve `source`.
    ///
    /// # Errors
    /// When no pipe or thread can be made.
    pub fn start(source: OwnedFd) -> io::Result<Self> {
        let (woken, wake) = io::pipe()?;
        let (demand, mut demanded) = mpsc::channel::<()>(1);
        let (sender, pieces) = mpsc::channel(1);
        let mut source = File::from(source);
        thread::Builder::new().name("input".into()).spawn(move || {
            while demanded.blocking_recv().is_some() {
                let Some(piece) = read_piece(&mut source, &woken) else {
                    break;
                };
                let last = !matches!(&piece, Ok(bytes) if !bytes.is_empty());
                if sender.blocking_send(piece).is_err() || last {
                    break;
                }
            }
        })?;
        Ok(Self {
            demand,
            pieces,
            asked: false,
            _wake: wake,
        })
    }

    /// The next bytes; `None` at the end of the input. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// Whatever reading gave. A terminal that went away counts as the end.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.asked {
            self.asked = true;
            // The thread is gone after the end of the input, which `recv` then tells.
            let _ = self.demand.try_send(());
        }
        let piece = self.pieces.recv().await;
        self.asked = false;
        match piece {
            Some(Ok(bytes)) if !bytes.is_empty() => Ok(Some(bytes)),
            Some(Err(error)) if error.raw_os_error() != Some(nix::libc::EIO) => Err(error),
            _ => Ok(None),
        }
    }
}

/// Waits until `source` has something to read, then reads once. `None` when the other side of
/// `woken` was closed first.
fn read_piece(source: &mut File, woken: &io::PipeReader) -> Option<io::Result<Vec<u8>>> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut waiting = [
            PollFd::new(source.as_fd(), PollFlags::POLLIN),
            PollFd::new(woken.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Some(Err(error.into())),
        }
        if waiting[1].any() == Some(true) {
            return None;
        }
        match source.read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Some(Ok(buffer));
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

/// Bytes on their way to an [`Output`], in whatever container they came.
pub type Piece = Box<dyn AsRef<[u8]> + Send>;

/// Writes pieces to a descriptor in order, holding back whoever writes faster than it drains.
#[derive(Debug)]
pub struct Output {
    pieces: Option<mpsc::Sender<Piece>>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Starts to serve `target`.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(target: OwnedFd) -> io::Result<Self> {
        let (pieces, mut received) = mpsc::channel::<Piece>(PIECES_IN_FLIGHT);
        let (end, ended) = oneshot::channel();
        let mut target = File::from(target);
        thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                let mut result = Ok(());
                while let Some(piece) = received.blocking_recv() {
                    result = write_piece(&mut target, (*piece).as_ref());
                    if result.is_err() {
                        break;
                    }
                }
                // Whoever waited may have gone away: then nobody wants the result.
                let _ = end.send(result);
            })?;
        Ok(Self {
            pieces: Some(pieces),
            ended,
        })
    }

    /// Hands one piece over, waiting while too many are on their way.
    ///
    /// # Errors
    /// What an earlier write gave; `BrokenPipe` when the reader is gone.
    pub async fn write(&mut self, piece: Piece) -> io::Result<()> {
        let Some(pieces) = &self.pieces else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        self.pieces = None;
        match (&mut self.ended).await {
            Ok(Err(error)) => Err(error),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until everything is written; nothing can be written afterwards.
    ///
    /// # Errors
    /// What a write gave.
    pub async fn finish(&mut self) -> io::Result<()> {
        if self.pieces.take().is_none() {
            return Ok(());
        }
        match (&mut self.ended).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// `write_all` which also copes with a descriptor that another process made non-blocking.
fn write_piece(target: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match target.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(target)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_writable(target: &File) -> io::Result<()> {
    let mut waiting = [PollFd::new(target.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut waiting, PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
