//! Standard input and output in asynchronous code, without side effects on other processes.
//!
//! A descriptor from a shell is shared with other processes, so it must stay blocking, and regular
//! files cannot be polled. So each direction has a thread that makes blocking calls. The threads
//! are detached, so that a blocked call does not delay the end of the process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, oneshot};

/// The maximum size of one read, in bytes: one SSH data packet (RFC 4253, section 6.1).
const CHUNK: usize = 32 * 1024;

/// The number of pieces that queue for a slow writer before the producer waits.
const PIECES_IN_FLIGHT: usize = 4;

/// The three standard streams of a command.
#[derive(Debug)]
pub struct Streams {
    /// The source of standard input.
    pub input: OwnedFd,
    /// The target of standard output.
    pub output: OwnedFd,
    /// The target of standard error.
    pub error: OwnedFd,
}

impl Streams {
    /// Duplicates the streams of this process.
    ///
    /// # Errors
    /// Fails if the process has no free descriptor.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self {
            input: io::stdin().as_fd().try_clone_to_owned()?,
            output: io::stdout().as_fd().try_clone_to_owned()?,
            error: io::stderr().as_fd().try_clone_to_owned()?,
        })
    }
}

/// Reads a descriptor in pieces, each on demand.
///
/// After it is dropped, nothing reads from the descriptor, except for a read that has started.
#[derive(Debug)]
pub struct Input {
    demand: mpsc::Sender<()>,
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    asked: bool,
    // Closing it ends the wait of the thread.
    _wake: io::PipeWriter,
}

impl Input {
    /// Starts a thread that reads `source`.
    ///
    /// # Errors
    /// Fails if no pipe or thread can be created.
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

    /// Returns the next bytes; `None` at the end of the input. Safe to cancel: no byte is lost.
    ///
    /// # Errors
    /// The error of the read. A closed terminal counts as the end of the input.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.asked {
            self.asked = true;
            // The thread ends with the input, and `recv` then returns `None`.
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

/// Waits until `source` is readable, then reads once. Returns `None` if the other end of `woken` is
/// closed first.
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

/// Bytes for an [`Output`], in any container.
pub type Piece = Box<dyn AsRef<[u8]> + Send>;

/// Writes pieces to a descriptor in order. A producer that is faster than the descriptor waits.
#[derive(Debug)]
pub struct Output {
    pieces: Option<mpsc::Sender<Piece>>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Starts a thread that writes to `target`.
    ///
    /// # Errors
    /// Fails if no thread can be created.
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
                // Without a receiver, the result is not needed.
                let _ = end.send(result);
            })?;
        Ok(Self {
            pieces: Some(pieces),
            ended,
        })
    }

    /// Queues one piece, and waits while the queue is full.
    ///
    /// # Errors
    /// The error of an earlier write; `BrokenPipe` if the reader is gone.
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

    /// Waits until all pieces are written. No piece can be written afterwards.
    ///
    /// # Errors
    /// The error of a write.
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

/// Writes all bytes, also to a descriptor that another process made non-blocking.
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
