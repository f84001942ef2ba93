//! Starting QEMU as a child that cannot outlive its supervisor.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as StdCommand, Stdio};

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use super::SupervisorError;
use crate::guest::DEV_ID;
use crate::host::files::FileError;
use crate::host::user_namespace::IdentityMap;
use crate::qemu::discard_filter::DiscardFilter;

/// What to start.
pub(super) struct Launch<'a> {
    /// QEMU's command line.
    pub(super) argv: &'a [String],
    /// Where QEMU's own words go.
    pub(super) log: &'a Path,
    /// Protects the template that the guest's memory comes from.
    pub(super) filter: Option<DiscardFilter>,
}

/// A started QEMU.
pub(super) struct Launched {
    pub(super) child: Child,
    /// What the user should know about how it runs.
    pub(super) warning: Option<String>,
}

/// Starts QEMU: in a user namespace where the caller's files belong to `dev`,
/// or without one where the host forbids it.
pub(super) fn launch(launch: &Launch<'_>) -> Result<Launched, SupervisorError> {
    let Some(map) = IdentityMap::of_caller(DEV_ID) else {
        return Ok(Launched {
            child: spawn(launch, None)?,
            warning: None,
        });
    };
    match spawn(launch, Some(map)) {
        Ok(child) => Ok(Launched {
            child,
            warning: None,
        }),
        Err(SupervisorError::Spawn { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(Launched {
                child: spawn(launch, None)?,
                warning: Some(format!(
                    "this host forbids user namespaces, so files in the workspace show their owner's number ({}) in the guest, and `dev` ({DEV_ID}) may not write them; use `sudo` there, or allow `user.max_user_namespaces` and AppArmor's `kernel.apparmor_restrict_unprivileged_userns=0`",
                    nix::unistd::geteuid()
                )),
            })
        }
        Err(error) => Err(error),
    }
}

fn spawn(launch: &Launch<'_>, namespace: Option<IdentityMap>) -> Result<Child, SupervisorError> {
    let log_path = launch.log;
    let log = File::options()
        .append(true)
        .create(true)
        .open(log_path)
        .map_err(FileError::new("open", log_path))?;
    let program = launch.argv.first().map(String::as_str).unwrap_or_default();
    let mut command = StdCommand::new(program);
    command
        .args(launch.argv.iter().skip(1))
        // The user's environment may hold secrets, and QEMU faces the guest.
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let supervisor = nix::unistd::getpid();
    let filter = launch.filter.clone();
    let prepare = move || {
        if let Some(map) = &namespace {
            map.enter()?;
        }
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The supervisor may have died before the line above.
        if nix::unistd::getppid() != supervisor {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        // The user's own mask may be stricter than the modes that 9p gives to
        // files of the guest; what is private lies in private directories.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        filter.as_ref().map_or(Ok(()), DiscardFilter::install)
    };
    // SAFETY: the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| SupervisorError::Spawn {
            program: program.into(),
            source,
        })
}
