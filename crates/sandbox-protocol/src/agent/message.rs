//! What the host asks of the agent, and its answers.

use serde::{Deserialize, Serialize};

/// The first frame of every stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Run a program; see [`crate::agent::frame`] for what follows.
    Execute(Execute),
    /// Set the guest's clock to this: the host's wall clock as it is when this
    /// arrives, in nanoseconds since 1970. Answered at once by
    /// [`Response::Done`], so that the host learns how long the way is.
    SetClock(i64),
    /// Become the sandbox that the seed describes: what follows a restore.
    /// Answered by [`Response::Done`] once the guest is ready.
    Start(Start),
    /// Prepare the guest for being saved: nothing of this boot that
    /// identifies it may stay. Answered by [`Response::Done`]; the agent then
    /// waits for a new preamble.
    Quiesce,
    /// Write out everything that the guest holds back for shares. Answered by
    /// [`Response::Done`].
    Flush,
    /// Tell the guest's state. Answered by [`Response::Status`].
    Status,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// Program and arguments, without null bytes; or a login shell.
    pub program: Program,
    /// Who runs it: a name or number known in the guest.
    pub user: String,
    /// The directory to start in; `None` for the user's home directory.
    pub directory: Option<Vec<u8>>,
    /// Names and values added to the environment of the session.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// A terminal for it, if it shall have one.
    pub terminal: Option<Terminal>,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// These words, the first of them looked up in the `PATH`.
    Words(Vec<Vec<u8>>),
    /// The user's login shell, as a login: a session of logind.
    LoginShell,
}

/// A pseudo-terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The value of `TERM`.
    pub kind: Vec<u8>,
    /// Its first size.
    pub size: Size,
    /// The control characters and modes that differ from a new terminal's, in
    /// the encoding of RFC 4254 section 8.
    pub modes: Vec<u8>,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Height in lines.
    pub rows: u16,
    /// Width in characters.
    pub columns: u16,
    /// Width in pixels, zero if not known.
    pub pixel_width: u16,
    /// Height in pixels, zero if not known.
    pub pixel_height: u16,
}

/// What makes a restored guest one sandbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The seed: names and values of credentials (docs/guest-contract.md).
    pub credentials: Vec<(String, Vec<u8>)>,
    /// The host's wall clock as this was sent: nanoseconds since 1970. The way
    /// takes its time; [`Request::SetClock`] corrects that.
    pub wall_clock_ns: i64,
    /// Randomness for the guest's generator.
    pub entropy: [u8; 32],
    /// Whether the root disk is larger than its file system.
    pub grow_root: bool,
}

/// Credentials hold keys.
impl std::fmt::Debug for Start {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.credentials.iter().map(|(name, _)| name);
        formatter.debug_list().entries(names).finish()
    }
}

/// An answer of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// It is done.
    Done,
    /// The program was started; its output follows.
    Started,
    /// The program ended, but something that it left behind still holds its
    /// output open: more of it may come, and [`Response::Ended`] at its end.
    Exited(Ended),
    /// The program ended: the last frame of its stream.
    Ended(Ended),
    /// The answer to [`Request::Status`].
    Status(Status),
    /// It was not done.
    Refused(Refusal),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// By itself, with this status.
    Exited(u8),
    /// By a signal, with this number (signal(7)).
    Killed(u8),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such program.
    NotFound,
    /// The program may not be executed, or is none; the error number.
    NotExecutable(i32),
    /// There is no such user.
    NoUser,
    /// The directory cannot be entered; the error number.
    Directory(i32),
    /// Anything else, in the agent's words.
    Failed(String),
}

/// What the guest is and does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The release of its kernel.
    pub kernel: String,
    /// Seconds since its kernel started.
    pub uptime_s: u64,
    /// Load averages of 1, 5 and 15 minutes, times 100.
    pub load_percent: [u32; 3],
    /// Memory in bytes: all of it.
    pub memory_total: u64,
    /// Memory in bytes: what programs can still have.
    pub memory_available: u64,
    /// Bytes of the root file system: all of it.
    pub disk_total: u64,
    /// Bytes of the root file system: what is free for users.
    pub disk_available: u64,
    /// Addresses of its network interfaces but the loopback's, with prefix length.
    pub addresses: Vec<String>,
}
