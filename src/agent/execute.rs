//! A program in the guest, over a stream of the agent's.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use russh::Pty;
use sandbox_protocol::agent::frame::{GuestFrame, HOST_FRAME_LIMIT, HostFrame, INPUT_WINDOW};
use sandbox_protocol::agent::message::{
    Ended, Execute, Program, Refusal, Request, Response, Size, Terminal,
};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::error::AgentError;
use super::frames::{FromAgent, ToAgent};
use crate::session::{
    self, Arrival, Ending, FromGuest, GuestCommand, PtyRequest, RemoteSignal, ToGuest,
};
use sandbox_host::notices::{Notices, Termination};
use sandbox_host::streams::Streams;
use sandbox_host::terminal::WindowSize;

/// How long the agent may take to start a program. An emulated guest under load has taken seconds.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// What runs `command`.
pub fn command(command: &GuestCommand) -> Execute {
    let bytes = |text: &OsStr| text.as_bytes().to_vec();
    Execute {
        program: Program::Words(command.argv.iter().map(|word| bytes(word)).collect()),
        user: command.user.clone(),
        directory: command.workdir.as_deref().map(|path| bytes(path.as_ref())),
        environment: command
            .environment
            .iter()
            .map(|variable| (bytes(variable.name()), bytes(variable.value())))
            .collect(),
        terminal: None,
    }
}

/// What runs a login shell of `user` in `directory`.
pub fn login_shell(user: &str, directory: &Path) -> Execute {
    Execute {
        program: Program::LoginShell,
        user: user.into(),
        directory: Some(directory.as_os_str().as_bytes().to_vec()),
        environment: Vec::new(),
        terminal: None,
    }
}

/// A stream to the agent, by way of the supervisor.
#[derive(Debug)]
pub struct Connection(UnixStream);

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Self(stream)
    }
}

impl Connection {
    /// Connects to the supervisor's socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(socket: &Path) -> Result<Self, AgentError> {
        let connected = UnixStream::connect(socket).await;
        connected.map(Self).map_err(|source| AgentError::Connect {
            socket: socket.into(),
            source,
        })
    }

    /// Runs `execute` with `streams`, with a pseudo-terminal if `pty` is given, and passes
    /// `notices` on: terminations as signals to the program and what it started, a resize to its
    /// terminal. A second Ctrl-C within two seconds abandons it: whoever closes the stream hangs up.
    ///
    /// # Errors
    /// When the program cannot be started, or the stream or a local one fails. A failure of the
    /// program is an [`Ending`].
    pub async fn execute(
        self,
        mut execute: Execute,
        streams: Streams,
        pty: Option<&PtyRequest>,
        notices: &mut Notices,
    ) -> Result<Ending, AgentError> {
        execute.terminal = pty.map(terminal);
        session::run(self.start(execute), streams, pty, notices).await
    }

    async fn start(self, execute: Execute) -> Result<(Sending, Receiving), AgentError> {
        let request = HostFrame::Request(Request::Execute(execute.clone()));
        let length = request.encode().len();
        if length > HOST_FRAME_LIMIT {
            return Err(AgentError::CommandTooLong {
                length,
                limit: HOST_FRAME_LIMIT,
            });
        }
        let (reader, writer) = self.0.into_split();
        let mut frames = FromAgent::new(reader);
        let mut to_agent = ToAgent::new(writer);
        let answer = async {
            // Why it cannot be sent is told by the way back.
            let _ = to_agent.send(&request).await;
            frames.next().await
        };
        let answer = timeout(START_DEADLINE, answer)
            .await
            .map_err(|_| AgentError::Deadline {
                waited: START_DEADLINE,
            })?;
        match answer? {
            GuestFrame::Response(Response::Started) => {}
            GuestFrame::Response(Response::Refused(refusal)) => {
                return Err(not_started(&execute, refusal));
            }
            _ => return Err(AgentError::Unexpected),
        }
        let credit = Rc::new(Credit::default());
        let sending = Sending {
            frames: Mutex::new(to_agent),
            credit: Rc::clone(&credit),
        };
        Ok((sending, Receiving { frames, credit }))
    }
}

/// A refusal in the words of what was asked for.
fn not_started(execute: &Execute, refusal: Refusal) -> AgentError {
    let program = || match &execute.program {
        Program::Words(words) => words.first().cloned().unwrap_or_default(),
        Program::LoginShell => b"login shell".to_vec(),
    };
    let text = |bytes: Vec<u8>| std::ffi::OsString::from_vec(bytes);
    match refusal {
        Refusal::NotFound => AgentError::NoProgram {
            program: text(program()),
        },
        Refusal::NotExecutable(number) => AgentError::NotExecutable {
            program: text(program()),
            source: io::Error::from_raw_os_error(number),
        },
        Refusal::NoUser => AgentError::NoUser {
            user: execute.user.clone(),
        },
        Refusal::Directory(number) => AgentError::Directory {
            directory: text(execute.directory.clone().unwrap_or_default()).into(),
            source: io::Error::from_raw_os_error(number),
        },
        Refusal::Failed(_) => AgentError::refused(refusal),
    }
}

fn terminal(pty: &PtyRequest) -> Terminal {
    let mut modes = Vec::new();
    for (code, value) in pty.modes() {
        modes.push(code as u8);
        modes.extend(value.to_be_bytes());
    }
    modes.push(Pty::TTY_OP_END as u8);
    Terminal {
        kind: pty.term.as_bytes().to_vec(),
        size: size_of(pty.size()),
        modes,
    }
}

fn size_of(window: WindowSize) -> Size {
    Size {
        rows: window.rows,
        columns: window.columns,
        pixel_width: window.pixel_width,
        pixel_height: window.pixel_height,
    }
}

/// How much input the program may still be sent.
struct Credit {
    room: Semaphore,
    /// What was sent and not yet taken.
    outstanding: Cell<usize>,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            room: Semaphore::new(INPUT_WINDOW),
            outstanding: Cell::new(0),
        }
    }
}

impl Credit {
    /// Waits for room for `length` bytes. False if there will never be any.
    async fn take(&self, length: usize) -> bool {
        let Ok(permits) = u32::try_from(length) else {
            return false;
        };
        let Ok(room) = self.room.acquire_many(permits).await else {
            return false;
        };
        room.forget();
        self.outstanding.set(self.outstanding.get() + length);
        true
    }

    /// The agent took `length` bytes, or says so: it cannot have taken more than it got.
    fn give_back(&self, length: usize) {
        let length = length.min(self.outstanding.get());
        self.outstanding.set(self.outstanding.get() - length);
        self.room.add_permits(length);
    }
}

/// The way to the program. That the stream is broken is noticed by the receiving side.
struct Sending {
    frames: Mutex<ToAgent<OwnedWriteHalf>>,
    credit: Rc<Credit>,
}

impl Sending {
    async fn send(&self, frame: HostFrame) -> bool {
        self.frames.lock().await.send(&frame).await.is_ok()
    }
}

impl ToGuest for Sending {
    async fn input(&self, piece: Vec<u8>) -> bool {
        self.credit.take(piece.len()).await && self.send(HostFrame::Input(piece.into())).await
    }

    async fn end_input(&self) {
        self.send(HostFrame::InputEnd).await;
    }

    async fn signal(&self, termination: Termination) {
        self.send(HostFrame::Signal(termination.number())).await;
    }

    async fn resize(&self, size: WindowSize) {
        self.send(HostFrame::Resize(size_of(size))).await;
    }
}

/// The way back.
struct Receiving {
    frames: FromAgent<OwnedReadHalf>,
    credit: Rc<Credit>,
}

impl FromGuest for Receiving {
    type Error = AgentError;

    async fn next(&mut self) -> Result<Arrival, AgentError> {
        loop {
            return match self.frames.next().await? {
                GuestFrame::Output(bytes) => Ok(Arrival::Output(Box::new(bytes))),
                GuestFrame::ErrorOutput(bytes) => Ok(Arrival::Error(Box::new(bytes))),
                GuestFrame::InputTaken(length) => {
                    self.credit
                        .give_back(usize::try_from(length).unwrap_or(usize::MAX));
                    continue;
                }
                GuestFrame::Response(Response::Exited(ended)) => Ok(Arrival::Exited(ending(ended))),
                GuestFrame::Response(Response::Ended(ended)) => {
                    Ok(Arrival::Complete(ending(ended)))
                }
                GuestFrame::Response(Response::Refused(refusal)) => {
                    Err(AgentError::refused(refusal))
                }
                GuestFrame::Response(_) => Err(AgentError::Unexpected),
            };
        }
    }
}

fn ending(ended: Ended) -> Ending {
    match ended {
        Ended::Exited(status) => Ending::Exited(status),
        Ended::Killed(number) => Ending::Killed(RemoteSignal::numbered(number)),
    }
}
