//! Processes of the installed program that serve the library: the hand-over, and what they do.
//!
//! A process with a role finds one typed hand-over on its standard input; its arguments only say
//! what it is, for process lists.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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

/// The first argument of a process with a role. The second says which, for process lists.
pub const ARGUMENT: &str = "supervise";

/// The second argument of a process that builds a template.
const TEMPLATE_ARGUMENT: &str = "template-build";

/// The descriptor on which a supervisor inherits its lock.
pub(crate) const LOCK_DESCRIPTOR: i32 = 3;
/// The descriptor on which a supervisor inherits its control socket.
pub(crate) const CONTROL_DESCRIPTOR: i32 = 4;

/// What one process hands over to another.
#[derive(Debug, Serialize, Deserialize)]
struct HandOver {
    /// The version of the program on both sides; another one is refused.
    version: String,
    role: Role,
}

/// What a process is for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Owning the sandbox of this plan. The lock and the control socket are inherited.
    Supervise(Box<StartPlan>),
    /// Building a template in the background.
    BuildTemplate {
        /// Whose template.
        host: Parts,
        /// What to build.
        build: start::BackgroundBuild,
    },
}

/// Why a role could not be given or taken.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// No program is installed.
    #[error("the program `sandbox` is not installed")]
    NoProgram,
    /// The installed program has another version than this library.
    #[error("`{}` has the version `{found}`, and this library `{expected}`", program.display())]
    OtherVersion {
        /// The program.
        program: PathBuf,
        /// Its version, in its own words.
        found: String,
        /// The library's.
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
    /// The standard input holds no hand-over of this version.
    #[error("standard input holds no hand-over of this version")]
    HandOver(#[source] serde_json::Error),
    /// A descriptor was not inherited.
    #[error(transparent)]
    Descriptor(FileError),
}

impl RoleError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NoProgram | Self::OtherVersion { .. } => {
                "install the `sandbox` of this version, or name it in `SANDBOX_PROGRAM`".into()
            }
            Self::Run { .. } => return None,
            Self::HandOver(_) | Self::Descriptor(_) => {
                Hint::text("other commands start this one: try ").command("--kvm")
            }
        })
    }
}

/// The version of this library and of programs that serve it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The program that runs as this process: it has this version.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The installed program, if its version is this library's.
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

/// A command line of `program` for a role, in a session of its own.
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

/// Starts a process and hands its role over.
pub(crate) fn start(command: &mut Command, role: &Role) -> io::Result<Child> {
    let hand_over = serde_json::to_vec(&HandOverRef {
        version: VERSION,
        role,
    })?;
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // A role reads its hand-over before anything else: this blocks for no longer than that takes.
    stdin.write_all(&hand_over)?;
    Ok(child)
}

/// [`HandOver`] as it is written.
#[derive(Serialize)]
struct HandOverRef<'a> {
    version: &'a str,
    role: &'a Role,
}

/// Starts a process whose output nobody reads.
pub(crate) fn start_in_background(program: &Path, role: &Role) -> io::Result<Child> {
    start(
        command(program, TEMPLATE_ARGUMENT)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
        role,
    )
}

/// Descriptors that a process may have inherited with its role.
#[derive(Debug)]
pub struct Inheritance {
    lock: Option<OwnedFd>,
    control: Option<OwnedFd>,
}

impl Inheritance {
    /// Takes the descriptors over. To be called before anything in this process opens a file, which
    /// would get the same numbers where the parent handed over nothing.
    pub fn take() -> Self {
        Self {
            lock: inherited(LOCK_DESCRIPTOR),
            control: inherited(CONTROL_DESCRIPTOR),
        }
    }
}

/// Takes over a descriptor of the parent, so that no child of ours gets it.
fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: `fcntl` below tells whether the descriptor is open; nothing else in this process owns
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

/// Does what this process is for, by the hand-over on its standard input. The program of the
/// command line calls it for [`ARGUMENT`]; whoever else does owns the process, too.
///
/// # Errors
/// Where nothing of this version was handed over, or a template cannot be built.
pub async fn run(inheritance: Inheritance) -> Result<(), Error> {
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
            start::run_in_role(&Host::from_parts(host), build).await
        }
    }
}
