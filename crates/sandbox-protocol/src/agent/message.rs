//! The requests of the host and the answers of the agent.

use serde::{Deserialize, Serialize};

/// The first frame of every stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Run a program. More frames follow ([`crate::agent::frame`]).
    Execute(Execute),
    /// Set the guest's clock to the host's wall clock at the arrival of this
    /// request, in nanoseconds since 1970. The agent answers at once with
    /// [`Response::Done`], so the host can measure the delay.
    SetClock(i64),
    /// Personalize a restored guest with the seed. The agent answers with
    /// [`Response::Done`] once the guest is ready.
    Start(Start),
    /// Prepare the guest to be saved: remove everything that identifies this
    /// boot. The agent answers with [`Response::Done`], then waits for a new
    /// preamble.
    Quiesce,
    /// Write all cached data of the shares to the host. The agent answers with
    /// [`Response::Done`].
    Flush,
    /// Report the guest's state. The agent answers with [`Response::Status`].
    Status,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// Program and arguments without null bytes, or a login shell.
    pub program: Program,
    /// The name or number of a user in the guest.
    pub user: String,
    /// The working directory; `None` for the user's home directory.
    pub directory: Option<Vec<u8>>,
    /// Names and values to add to the session's environment.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// The terminal of the program; `None` for pipes.
    pub terminal: Option<Terminal>,
}

/// The kind of program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A program, found in the `PATH`, and its arguments.
    Words(Vec<Vec<u8>>),
    /// The user's login shell in a logind session.
    LoginShell,
}

/// A pseudo-terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The value of `TERM`.
    pub kind: Vec<u8>,
    /// The initial size.
    pub size: Size,
    /// Control characters and modes that differ from a new terminal, encoded
    /// as in RFC 4254, section 8.
    pub modes: Vec<u8>,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Height in lines.
    pub rows: u16,
    /// Width in characters.
    pub columns: u16,
    /// Width in pixels; zero if unknown.
    pub pixel_width: u16,
    /// Height in pixels; zero if unknown.
    pub pixel_height: u16,
}

/// The identity of a sandbox, for a restored guest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The seed: names and values of credentials (docs/guest-contract.md).
    pub credentials: Vec<(String, Vec<u8>)>,
    /// The host's wall clock when it sent this, in nanoseconds since 1970.
    /// [`Request::SetClock`] later corrects the delay on the way.
    pub wall_clock_ns: i64,
    /// Random bytes for the guest kernel's generator.
    pub entropy: [u8; 32],
    /// Whether the root disk is larger than its file system.
    pub grow_root: bool,
}

/// Prints the names of the credentials only, since values may be keys.
impl std::fmt::Debug for Start {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.credentials.iter().map(|(name, _)| name);
        formatter.debug_list().entries(names).finish()
    }
}

/// An answer of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The agent has carried out the request.
    Done,
    /// The program has started. Its output follows.
    Started,
    /// The program has ended, but another process still holds its output open.
    /// More output may follow, then [`Response::Ended`].
    Exited(Ended),
    /// The program and its output have ended. This is the last frame of the
    /// stream.
    Ended(Ended),
    /// The answer to [`Request::Status`].
    Status(Status),
    /// The agent could not carry out the request.
    Refused(Refusal),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It exited with this status.
    Exited(u8),
    /// A signal with this number killed it (signal(7)).
    Killed(u8),
}

/// The reason for [`Response::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The program does not exist.
    NotFound,
    /// The kernel did not execute the program; the error number.
    NotExecutable(i32),
    /// The user does not exist.
    NoUser,
    /// The agent could not enter the directory; the error number.
    Directory(i32),
    /// Any other reason, as text.
    Failed(String),
}

/// The state of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The kernel release.
    pub kernel: String,
    /// The uptime in seconds.
    pub uptime_s: u64,
    /// Load averages of 1, 5 and 15 minutes, times 100.
    pub load_percent: [u32; 3],
    /// Total memory in bytes.
    pub memory_total: u64,
    /// Memory available to programs, in bytes.
    pub memory_available: u64,
    /// Size of the root file system in bytes.
    pub disk_total: u64,
    /// Space available to users in the root file system, in bytes.
    pub disk_available: u64,
    /// Addresses of all network interfaces except the loopback interface, with
    /// prefix length.
    pub addresses: Vec<String>,
}
