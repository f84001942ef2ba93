//! From the host's request to a running program.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
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

/// A program that was started, and our ends of what it is connected to.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    /// Taken by whoever closes it at the end of the input.
    pub(super) input: Option<Arc<Descriptor>>,
    pub(super) output: Arc<Descriptor>,
    /// A program with a terminal has none.
    pub(super) error: Option<Arc<Descriptor>>,
}

impl Running {
    /// Our end of the program's terminal, if it has one.
    pub(super) fn terminal(&self) -> Option<&Arc<Descriptor>> {
        self.error.is_none().then_some(&self.output)
    }
}

/// Added to the error numbers of entering the directory, so that they are told
/// from those of executing the program; Linux has none beyond 4095.
const DIRECTORY_ERRORS: i32 = 1 << 16;

/// Added to the error numbers of everything else before that.
const OTHER_ERRORS: i32 = 2 << 16;

/// Starts the program.
pub(super) fn start(request: Execute, places: &Places) -> Result<Running, Refusal> {
    let user = User::find(&places.etc, &request.user)
        .map_err(|cause| Refusal::Failed(format!("could not read the guest's users: {cause}")))?
        .ok_or(Refusal::NoUser)?;
    let mut environment = variables::of(&user, places);
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
        Program::Words(words) => direct(words, &user, directory, environment, pair.is_some())?,
        Program::LoginShell => login_shell::command(
            &user.name,
            directory.as_deref(),
            environment,
            pair.is_some(),
        ),
    };
    let connected = connect(&mut command, pair)
        .map_err(|cause| Refusal::Failed(format!("could not create pipes: {cause}")))?;
    let child = command.spawn().map_err(refusal)?;
    // Holds the program's ends of the pipes.
    drop(command);
    let pid = Pid::from_child(&child);
    connected
        .watch(pid)
        .map_err(|cause| Refusal::Failed(format!("could not watch the program: {cause}")))
}

/// The command for a program that is executed without shell or login.
fn direct(
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
    let child = Child {
        has_terminal,
        identity: Identity::of(user),
        home: user.home.clone(),
        directory,
    };
    // SAFETY: `Child::prepare` makes system calls only and allocates nothing.
    unsafe { command.pre_exec(move || child.prepare()) };
    Ok(command)
}

/// Tells what was the matter with a program that could not be started.
fn refusal(error: io::Error) -> Refusal {
    let Some(number) = error.raw_os_error() else {
        // A null byte in a word.
        return Refusal::Failed(error.to_string());
    };
    let other = |number| {
        let cause = io::Error::from_raw_os_error(number);
        Refusal::Failed(format!("could not start a process: {cause}"))
    };
    match number {
        OTHER_ERRORS.. => other(number - OTHER_ERRORS),
        DIRECTORY_ERRORS.. => Refusal::Directory(number - DIRECTORY_ERRORS),
        _ => match Errno::from_raw_os_error(number) {
            Errno::NOENT => Refusal::NotFound,
            Errno::AGAIN | Errno::NOMEM => other(number),
            _ => Refusal::NotExecutable(number),
        },
    }
}

/// Our ends, before there is a process.
struct Connected {
    input: Arc<Descriptor>,
    output: Arc<Descriptor>,
    error: Option<Arc<Descriptor>>,
}

impl Connected {
    fn watch(self, pid: Pid) -> io::Result<Running> {
        Ok(Running {
            process: Process::new(pid)?,
            input: Some(self.input),
            output: self.output,
            error: self.error,
        })
    }
}

/// Gives the program its standard descriptors and returns our ends.
fn connect(command: &mut Command, pair: Option<Pair>) -> io::Result<Connected> {
    if let Some(Pair { master, slave }) = pair {
        command
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave));
        let both = Interest::READABLE | Interest::WRITABLE;
        let master = Arc::new(Descriptor::new(master, both)?);
        return Ok(Connected {
            input: Arc::clone(&master),
            output: master,
            error: None,
        });
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ours = |end: OwnedFd, interest| Descriptor::new(end, interest).map(Arc::new);
    let (input, output, error) = (pipe()?, pipe()?, pipe()?);
    command
        .stdin(Stdio::from(input.0))
        .stdout(Stdio::from(output.1))
        .stderr(Stdio::from(error.1));
    Ok(Connected {
        input: ours(input.1, Interest::WRITABLE)?,
        output: ours(output.0, Interest::READABLE)?,
        error: Some(ours(error.0, Interest::READABLE)?),
    })
}

/// Who the program runs as.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    /// `None` if this process is that user already and may not change groups.
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

/// What the new process does before it executes the program.
struct Child {
    has_terminal: bool,
    identity: Option<Identity>,
    home: PathBuf,
    directory: Option<PathBuf>,
}

impl Child {
    fn prepare(&self) -> io::Result<()> {
        begin_session(self.has_terminal).map_err(|error| shifted(error, OTHER_ERRORS))?;
        // First as the agent: the workspace lies in the home directory of `dev`,
        // which other users may not pass, but they may work in it.
        let entered = self.directory.is_some() && self.enter_directory().is_ok();
        self.become_user()
            .map_err(|error| shifted(error, OTHER_ERRORS))?;
        if entered {
            return Ok(());
        }
        self.enter_directory()
            .map_err(|error| shifted(error, DIRECTORY_ERRORS))
    }

    /// Without a home to enter, anything will do, as for sshd.
    fn enter_directory(&self) -> rustix::io::Result<()> {
        let home = rustix::process::chdir(&self.home);
        match &self.directory {
            Some(directory) => rustix::process::chdir(directory),
            None => home.or_else(|_| rustix::process::chdir("/")),
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

fn shifted(error: Errno, by: i32) -> io::Error {
    io::Error::from_raw_os_error(error.raw_os_error() + by)
}
