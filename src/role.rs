//! Roles of processes: the installed program runs supervisors and template builds for the library.
//!
//! A process with a role reads one typed hand-over from its standard input. Its arguments only
//! describe it in process lists.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use sandbox_host::lock::DirectoryLock;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::host::{Host, Parts};
use crate::plan::StartPlan;
use crate::{start, supervisor};

/// The first argument of a process with a role. The second one describes it in process lists.
pub const ARGUMENT: &str = "supervise";

/// The second argument of a process that builds a template.
const TEMPLATE_ARGUMENT: &str = "template-build";

/// The descriptor on which a supervisor inherits its lock.
pub(crate) const LOCK_DESCRIPTOR: i32 = 3;
/// The descriptor on which a supervisor inherits its control socket.
pub(crate) const CONTROL_DESCRIPTOR: i32 = 4;

/// The message that one process hands over to another.
#[derive(Debug, Serialize, Deserialize)]
struct HandOver {
    /// The version of the sender. The receiver refuses another one than its own.
    version: String,
    role: Role,
}

/// The task of a process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Supervises the sandbox of this plan. The process inherits the lock and the control socket.
    Supervise(Box<StartPlan>),
    /// Builds a template in the background.
    BuildTemplate {
        /// The host of the template.
        host: Parts,
        /// The template to build.
        build: Box<start::BackgroundBuild>,
    },
}

/// A failure to start a process with a role, or to take a role over.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The `sandbox` program is not installed.
    #[error("program `sandbox` not found")]
    NoProgram,
    /// The installed program has another version than this library.
    #[error("`{}` has version `{found}`; this library has `{expected}`", program.display())]
    OtherVersion {
        /// The program.
        program: PathBuf,
        /// The program's version, as it prints it.
        found: String,
        /// The library's version.
        expected: &'static str,
    },
    /// The program cannot be run.
    #[error("could not run `{}`", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The standard input does not contain a hand-over of this version.
    #[error("could not read a hand-over from standard input")]
    HandOver(#[source] serde_json::Error),
    /// A descriptor was not inherited.
    #[error(transparent)]
    Descriptor(FileError),
}

impl RoleError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NoProgram | Self::OtherVersion { .. } => {
                "install the `sandbox` of this version, or name it in `SANDBOX_PROGRAM`".into()
            }
            Self::Run { .. } => return None,
            Self::HandOver(_) | Self::Descriptor(_) => Hint::text("run ")
                .command("--kvm")
                .then(" instead: other commands start this one"),
        })
    }
}

/// The version of this library and of the programs that it accepts.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The program of this process, which has this version.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Returns the installed program.
///
/// # Errors
/// Fails if no program is installed, or if it has another version than this library.
pub(crate) fn program(host: &Host) -> Result<PathBuf, Error> {
    let program = host.installed_program().ok_or(RoleError::NoProgram)?;
    if program != Path::new(OWN_PROGRAM) {
        check_version(program)?;
    }
    Ok(program.to_path_buf())
}

fn check_version(program: &Path) -> Result<(), RoleError> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|source| RoleError::Run {
            program: program.into(),
            source,
        })?;
    let found = String::from_utf8_lossy(&output.stdout);
    let found = found.trim().rsplit(' ').next().unwrap_or_default();
    if found == VERSION {
        return Ok(());
    }
    Err(RoleError::OtherVersion {
        program: program.into(),
        found: sandbox_host::printable::sanitize_line(found.as_bytes(), 40),
        expected: VERSION,
    })
}

/// Returns the command that starts `program` with a role, in a new session.
pub(crate) fn command(program: &Path, subject: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .arg0("sandbox")
        .arg(ARGUMENT)
        .arg(subject)
        .current_dir("/")
        .stdin(Stdio::piped());
    // SAFETY: `setsid` is a system call and allocates nothing.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
    }
    command
}

/// Starts a process and hands over its role.
pub(crate) fn start(command: &mut Command, role: &Role) -> io::Result<Child> {
    let hand_over = serde_json::to_vec(&HandOverRef {
        version: VERSION,
        role,
    })?;
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // A role reads its hand-over first, so this blocks only until then.
    stdin.write_all(&hand_over)?;
    Ok(child)
}

/// The borrowed form of [`HandOver`], for writing.
#[derive(Serialize)]
struct HandOverRef<'a> {
    version: &'a str,
    role: &'a Role,
}

/// Starts a process and discards its output.
pub(crate) fn start_in_background(program: &Path, role: &Role) -> io::Result<Child> {
    start(
        command(program, TEMPLATE_ARGUMENT)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
        role,
    )
}

/// The descriptors that a process may have inherited with its role.
#[derive(Debug)]
pub struct Inheritance {
    lock: Option<OwnedFd>,
    control: Option<OwnedFd>,
}

impl Inheritance {
    /// Takes the descriptors over.
    ///
    /// Call this before the process opens a file: the file could get one of the same numbers.
    pub fn take() -> Self {
        Self {
            lock: inherited(LOCK_DESCRIPTOR),
            control: inherited(CONTROL_DESCRIPTOR),
        }
    }
}

/// Takes over a descriptor of the parent, and closes it in children of this process.
fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: `fcntl` below checks that the descriptor is open. Nothing else in this process owns
    // it, since it was open when the process started.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Some(descriptor),
        Err(_) => {
            std::mem::forget(descriptor);
            None
        }
    }
}

/// Runs the role that the hand-over on standard input describes. The command-line program calls
/// this for [`ARGUMENT`]. The call uses the process's standard input and its signals.
///
/// # Errors
/// Fails if standard input has no hand-over of this version, or if a template cannot be built.
///
/// The future is boxed, so that its code, a whole supervisor, is compiled in this crate and not in
/// the program.
pub fn run(inheritance: Inheritance) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(run_hand_over(inheritance))
}

async fn run_hand_over(inheritance: Inheritance) -> Result<(), Error> {
    let hand_over: HandOver =
        serde_json::from_reader(io::stdin().lock()).map_err(RoleError::HandOver)?;
    if hand_over.version != VERSION {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            RoleError::OtherVersion {
                program: OWN_PROGRAM.into(),
                found: VERSION.into(),
                expected: "another one",
            },
            None,
        ));
    }
    match hand_over.role {
        Role::Supervise(plan) => {
            let missing = |number: i32| {
                RoleError::Descriptor(FileError::new(
                    "take over",
                    format!("/proc/self/fd/{number}"),
                )(io::ErrorKind::NotFound.into()))
            };
            let lock = inheritance.lock.ok_or_else(|| missing(LOCK_DESCRIPTOR))?;
            let control = inheritance
                .control
                .ok_or_else(|| missing(CONTROL_DESCRIPTOR))?;
            let lock = DirectoryLock::inherited(lock);
            let listener = UnixListener::from(control);
            supervisor::run(*plan, lock, listener, supervisor::Owner::Process).await;
            Ok(())
        }
        Role::BuildTemplate { host, build } => {
            start::run_in_role(&Host::from_parts(host), *build).await
        }
    }
}
