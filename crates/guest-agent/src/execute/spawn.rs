//! Starts the program of a request.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Pid, Uid};
use sandbox_protocol::agent::message::{Execute, Program, Refusal};
use tokio::io::Interest;

use super::accounts::User;
use super::descriptor::Descriptor;
use super::login_shell;
use super::process::Process;
use super::session::begin_session;
use super::terminal::{self, Pair};
use super::variables::{self, Places, Variables};

/// A running program and the agent's ends of its pipes or terminal.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    /// `None` once another owner has taken it, to close it at the end of the
    /// input.
    pub(super) input: Option<Arc<Descriptor>>,
    pub(super) output: Arc<Descriptor>,
    /// `None` for a program with a terminal.
    pub(super) error: Option<Arc<Descriptor>>,
}

impl Running {
    /// Returns the agent's end of the program's terminal, if it has one.
    pub(super) fn terminal(&self) -> Option<&Arc<Descriptor>> {
        self.error.is_none().then_some(&self.output)
    }
}

/// Added to the error numbers of entering the directory. This distinguishes them
/// from those of execve(2): Linux has none above 4095 (`MAX_ERRNO`,
/// `linux/err.h`).
const DIRECTORY_ERROR_BASE: i32 = 1 << 16;

/// Added to the error numbers of all other steps before execve(2).
const SETUP_ERROR_BASE: i32 = 2 << 16;

/// Starts the program of a request.
pub(super) fn start(request: Execute, places: &Places) -> Result<Running, Refusal> {
    let user = User::find(&places.etc, &request.user)
        .map_err(|cause| Refusal::Failed(format!("could not read the guest's users: {cause}")))?
        .ok_or(Refusal::NoUser)?;
    let mut environment = variables::for_user(&user, places);
    variables::add(&mut environment, request.environment).map_err(|name| {
        Refusal::Failed(format!("invalid environment variable `{}`", name.display()))
    })?;
    let directory = request
        .directory
        .map(|directory| PathBuf::from(OsString::from_vec(directory)));
    let pair = match &request.terminal {
        Some(terminal) => {
            environment.insert("TERM".into(), OsString::from_vec(terminal.kind.clone()));
            let pair = terminal::open(terminal, user.uid, &places.etc)
                .map_err(|cause| Refusal::Failed(format!("could not open a terminal: {cause}")))?;
            Some(pair)
        }
        None => None,
    };
    let mut command = match request.program {
        Program::Words(words) => {
            direct_command(words, &user, directory, environment, pair.is_some())?
        }
        Program::LoginShell => login_shell::command(
            &user.name,
            directory.as_deref(),
            environment,
            pair.is_some(),
        ),
    };
    let agent_ends = connect(&mut command, pair)
        .map_err(|cause| Refusal::Failed(format!("could not create pipes: {cause}")))?;
    let child = command.spawn().map_err(refusal)?;
    // Close the program's ends of the pipes, which the command owns.
    drop(command);
    let pid = Pid::from_child(&child);
    agent_ends
        .watch(pid)
        .map_err(|cause| Refusal::Failed(format!("could not watch the program: {cause}")))
}

/// Builds the command that starts a program without shell or login.
fn direct_command(
    words: Vec<Vec<u8>>,
    user: &User,
    directory: Option<PathBuf>,
    mut environment: Variables,
    has_terminal: bool,
) -> Result<Command, Refusal> {
    let mut words = words.into_iter().map(OsString::from_vec);
    let program = words.next().ok_or(Refusal::NotFound)?;
    let path = match &directory {
        Some(directory) => user.home.join(directory),
        None => user.home.clone(),
    };
    environment.insert("PWD".into(), path.into());
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(environment);
    let setup = ChildSetup {
        has_terminal,
        identity: Identity::of(user),
        home: c_path(&user.home)?,
        directory: directory.as_deref().map(c_path).transpose()?,
    };
    // SAFETY: `ChildSetup::run` makes system calls only and allocates nothing.
    unsafe { command.pre_exec(move || setup.run()) };
    Ok(command)
}

/// Converts a path for system calls. rustix allocates memory for the conversion
/// of a long path, and the child must not.
fn c_path(path: &Path) -> Result<CString, Refusal> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| refusal(error.into()))
}

/// Converts the error of a program that could not start.
fn refusal(error: io::Error) -> Refusal {
    let Some(number) = error.raw_os_error() else {
        // A word or a path contains a null byte.
        return Refusal::Failed(error.to_string());
    };
    let other = |number| {
        let cause = io::Error::from_raw_os_error(number);
        Refusal::Failed(format!("could not start a process: {cause}"))
    };
    match number {
        SETUP_ERROR_BASE.. => other(number - SETUP_ERROR_BASE),
        DIRECTORY_ERROR_BASE.. => Refusal::Directory(number - DIRECTORY_ERROR_BASE),
        _ => match Errno::from_raw_os_error(number) {
            Errno::NOENT => Refusal::NotFound,
            Errno::AGAIN | Errno::NOMEM => other(number),
            _ => Refusal::NotExecutable(number),
        },
    }
}

/// The agent's ends of the pipes or the terminal of a future process.
struct AgentEnds {
    input: Arc<Descriptor>,
    output: Arc<Descriptor>,
    error: Option<Arc<Descriptor>>,
}

impl AgentEnds {
    fn watch(self, pid: Pid) -> io::Result<Running> {
        Ok(Running {
            process: Process::new(pid)?,
            input: Some(self.input),
            output: self.output,
            error: self.error,
        })
    }
}

/// Gives the program its standard descriptors and returns the agent's ends.
fn connect(command: &mut Command, pair: Option<Pair>) -> io::Result<AgentEnds> {
    if let Some(Pair { master, slave }) = pair {
        command
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave));
        let both = Interest::READABLE | Interest::WRITABLE;
        let master = Arc::new(Descriptor::new(master, both)?);
        return Ok(AgentEnds {
            input: Arc::clone(&master),
            output: master,
            error: None,
        });
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let agent_end = |end: OwnedFd, interest| Descriptor::new(end, interest).map(Arc::new);
    let (input, output, error) = (pipe()?, pipe()?, pipe()?);
    command
        .stdin(Stdio::from(input.0))
        .stdout(Stdio::from(output.1))
        .stderr(Stdio::from(error.1));
    Ok(AgentEnds {
        input: agent_end(input.1, Interest::WRITABLE)?,
        output: agent_end(output.0, Interest::READABLE)?,
        error: Some(agent_end(error.0, Interest::READABLE)?),
    })
}

/// The user and groups of a program.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    /// Returns `None` if this process already is that user and may not change
    /// its groups.
    fn of(user: &User) -> Option<Self> {
        let own = rustix::process::geteuid();
        if !own.is_root() && own.as_raw() == user.uid {
            return None;
        }
        Some(Self {
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid()),
            groups: user.groups.iter().copied().map(Gid::from_raw).collect(),
        })
    }
}

/// The steps of the new process before it executes the program.
struct ChildSetup {
    has_terminal: bool,
    identity: Option<Identity>,
    home: CString,
    directory: Option<CString>,
}

impl ChildSetup {
    fn run(&self) -> io::Result<()> {
        begin_session(self.has_terminal).map_err(|error| with_base(error, SETUP_ERROR_BASE))?;
        // First try as the agent: other users may work in the workspace, but may
        // not pass the home directory of `dev`, which contains it.
        let entered = self.directory.is_some() && self.enter_directory().is_ok();
        self.become_user()
            .map_err(|error| with_base(error, SETUP_ERROR_BASE))?;
        if entered {
            return Ok(());
        }
        self.enter_directory()
            .map_err(|error| with_base(error, DIRECTORY_ERROR_BASE))
    }

    /// Enters the requested directory, relative to home. Without a request it
    /// enters home or, like sshd(8), `/`.
    fn enter_directory(&self) -> rustix::io::Result<()> {
        let home = rustix::process::chdir(self.home.as_c_str());
        match &self.directory {
            Some(directory) => rustix::process::chdir(directory.as_c_str()),
            None => home.or_else(|_| rustix::process::chdir(c"/")),
        }
    }

    fn become_user(&self) -> rustix::io::Result<()> {
        if let Some(Identity { uid, gid, groups }) = &self.identity {
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_gid(*gid)?;
            rustix::thread::set_thread_uid(*uid)?;
        }
        Ok(())
    }
}

fn with_base(error: Errno, base: i32) -> io::Error {
    io::Error::from_raw_os_error(base + error.raw_os_error())
}
