//! The start of QEMU as a child that cannot outlive its supervisor.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as StdCommand, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use super::SupervisorError;
use sandbox_host::files::FileError;
use sandbox_host::user_namespace::IdentityMap;
use sandbox_qemu::argv::NETWORK_DESCRIPTOR;
use sandbox_qemu::discard_filter::DiscardFilter;
use sandbox_spec::guest::DEV_ID;

/// A QEMU to start.
pub(super) struct Launch<'a> {
    /// QEMU's command line.
    pub(super) argv: &'a [String],
    /// The log of QEMU's output.
    pub(super) log: &'a Path,
    /// The guest's end of the network.
    pub(super) network: BorrowedFd<'a>,
    /// Protects the template that the guest's memory comes from.
    pub(super) filter: Option<DiscardFilter>,
}

/// A started QEMU.
pub(super) struct Launched {
    pub(super) child: Child,
    /// A restriction that the user should know about.
    pub(super) warning: Option<String>,
}

/// Starts QEMU in namespaces without a network, in which the caller's files belong to `dev`. Where
/// the host forbids such namespaces, starts it without them.
pub(super) fn launch(launch: &Launch<'_>) -> Result<Launched, SupervisorError> {
    launch_in(Some(IdentityMap::of_caller(DEV_ID)), launch)
}

fn launch_in(map: Option<IdentityMap>, launch: &Launch<'_>) -> Result<Launched, SupervisorError> {
    let in_namespace = map.is_some();
    let refusal = match spawn(launch, map) {
        Ok(child) => {
            return Ok(Launched {
                child,
                warning: None,
            });
        }
        // Hosts forbid namespaces in many ways (AppArmor, a sysctl, a container's filter, the
        // kernel's configuration), each with its own errno. So every failure leads to a second
        // attempt, and one with another cause fails again.
        Err(SupervisorError::Spawn { source, .. }) if in_namespace => source,
        Err(error) => return Err(error),
    };
    tracing::info!(%refusal, "this host forbids user namespaces");
    let caller = nix::unistd::geteuid();
    // Without a namespace, the guest sees the caller's own uid.
    let is_dev = caller.as_raw() == DEV_ID;
    Ok(Launched {
        child: spawn(launch, None)?,
        warning: (!is_dev).then(|| format!(
            "this host forbids user namespaces, so files in the workspace belong to the uid {caller} in the guest, and `dev` ({DEV_ID}) cannot write to them; use `sudo` in the guest, or allow `user.max_user_namespaces` and AppArmor's `kernel.apparmor_restrict_unprivileged_userns=0`",
        )),
    })
}

fn spawn(launch: &Launch<'_>, namespace: Option<IdentityMap>) -> Result<Child, SupervisorError> {
    let Launch {
        argv,
        log: log_path,
        network,
        filter,
    } = launch;
    let network: OwnedFd = network.try_clone_to_owned()?;
    let filter = filter.clone();
    let log = File::options()
        .append(true)
        .create(true)
        .open(log_path)
        .map_err(FileError::new("open", log_path))?;
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let mut command = StdCommand::new(program);
    command
        .args(argv.iter().skip(1))
        // The environment may contain secrets, and the guest may take QEMU over.
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .fd_mappings(vec![FdMapping {
            parent_fd: network,
            child_fd: NETWORK_DESCRIPTOR,
        }])
        .map_err(std::io::Error::other)?;
    let supervisor = nix::unistd::getpid();
    let prepare = move || {
        if let Some(map) = &namespace {
            map.enter()?;
        }
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The supervisor may have died before the signal was set.
        if nix::unistd::getppid() != supervisor {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        // The caller's mask could be stricter than the modes that the guest sets through 9p.
        // Private files lie in private directories.
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Returns a command in place of QEMU, which succeeds if it sees the caller's own uid.
    fn words(program: &str) -> Vec<String> {
        let own = nix::unistd::geteuid();
        [program, "-c", &format!("test $(id -u) = {own}")]
            .map(str::to_owned)
            .into()
    }

    fn unfiltered<'a>(argv: &'a [String], log: &'a Path, network: &'a File) -> Launch<'a> {
        Launch {
            argv,
            log,
            network: network.as_fd(),
            filter: None,
        }
    }

    fn no_network() -> File {
        File::open("/dev/null").unwrap()
    }

    #[tokio::test]
    async fn launch_without_user_namespaces_warns_and_starts() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("qemu.log");
        let argv = words("/bin/sh");
        // This fails with EINVAL, like a kernel without user namespaces. AppArmor returns EACCES,
        // and a limit of 0 namespaces ENOSPC.
        let refused = Some(IdentityMap::malformed());
        let mut launched = launch_in(refused, &unfiltered(&argv, &log, &no_network())).unwrap();
        assert!(launched.child.wait().await.unwrap().success());
        let warning = launched.warning.unwrap();
        assert!(
            warning.contains("forbids user namespaces"),
            "unexpected: {warning}"
        );

        let mut launched = launch_in(None, &unfiltered(&argv, &log, &no_network())).unwrap();
        assert!(launched.child.wait().await.unwrap().success());
        assert_eq!(launched.warning, None);
    }

    #[tokio::test]
    async fn launch_of_a_missing_program_reports_the_program() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("qemu.log");
        let argv = words("/nonexistent/qemu");
        let map = Some(IdentityMap::of_caller(nix::unistd::geteuid().as_raw() + 1));
        let Err(error) = launch_in(map, &unfiltered(&argv, &log, &no_network())) else {
            panic!("started a program that does not exist");
        };
        assert_eq!(error.to_string(), "could not run `/nonexistent/qemu`");
    }
}
