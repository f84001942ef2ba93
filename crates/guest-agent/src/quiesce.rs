//! Prepares a settled guest to be saved as a template: removes everything that
//! identifies it, since many sandboxes are restored from it.
//!
//! Afterwards the agent executes itself again, so that the template contains no
//! conversation and no random number of the agent.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{fs, io};

use crate::kernel;
use crate::programs::{AGENT_PATH, RUNUSER_PATH};
use crate::systemctl::{SystemctlError, systemctl};

/// This file exists in a guest that is quiesced and not yet personalized.
const MARK: &str = "/run/sandbox/quiesced";

/// The units to stop. The console login shows the template's host name in its
/// prompt. An sshd in the template would share its random state and keys.
const STOPPED_UNITS: [&str; 2] = ["serial-getty@ttyS0.service", "ssh.service"];

/// The journal. systemd listens on its sockets meanwhile: the first message
/// starts it again, with the new machine ID.
const JOURNAL: &str = "systemd-journald.service";

/// The files to truncate. Mode and owner stay, for the programs that write them.
const TRUNCATED_FILES: [&str; 3] = ["/var/log/wtmp", "/var/log/btmp", "/var/log/lastlog"];

/// The files to remove.
const REMOVED_FILES: [&str; 6] = [
    "/home/dev/.bash_history",
    "/home/dev/.lesshst",
    "/root/.bash_history",
    "/run/motd.dynamic",
    "/var/lib/systemd/credential.secret",
    "/var/lib/systemd/random-seed",
];

/// The directories whose content to remove.
const CLEARED_DIRECTORIES: [&str; 4] = ["/tmp", "/var/tmp", "/run/log/journal", "/var/log/journal"];

/// The directories that receive files of the seed.
const SEED_DIRECTORIES: [&str; 4] = ["/etc", "/etc/ssh", "/home/dev/.ssh", "/root/.ssh"];

/// Typical first commands of a sandbox. They fill the page cache, which the host
/// saves with the memory. They run as `dev` in their own session.
const WARM_UP_COMMANDS: &str = "true; /bin/true; sh -c :; ls -la / >/dev/null; cat /etc/passwd >/dev/null; \
     env >/dev/null; id >/dev/null; pwd >/dev/null; uname -a >/dev/null; hostname >/dev/null; \
     printf '' | grep -q x; printf '' | head; echo | sed -n 1p; sleep 0; sudo -n true";

/// A step of the preparation that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuiesceError {
    #[error(transparent)]
    Systemctl(#[from] SystemctlError),
    #[error("could not remove `{path}`")]
    Remove { path: PathBuf, source: io::Error },
    #[error("could not write and remove `{path}`")]
    WarmUpDirectory { path: PathBuf, source: io::Error },
    #[error("could not write `{path}`")]
    Write {
        path: &'static str,
        source: io::Error,
    },
    #[error("could not replace the boot ID")]
    BootId { source: io::Error },
    #[error("could not drop the page cache")]
    Caches { source: io::Error },
    #[error("could not execute `runuser`")]
    Execute { source: io::Error },
    #[error("the warm-up commands failed: {status}")]
    WarmUpCommands { status: ExitStatus },
}

/// Returns whether the guest is quiesced and not yet personalized.
pub(crate) fn is_quiescent() -> bool {
    Path::new(MARK).exists()
}

/// Removes the mark of a quiesced guest.
pub(crate) fn unmark() -> io::Result<()> {
    fs::remove_file(MARK)
}

/// Quiesces the guest.
pub(crate) fn run() -> Result<(), QuiesceError> {
    stop(&STOPPED_UNITS)?;
    kernel::replace_boot_id().map_err(|source| QuiesceError::BootId { source })?;
    kernel::drop_page_cache().map_err(|source| QuiesceError::Caches { source })?;
    run_warm_up_commands()?;
    // After the commands, which write to the journal.
    stop(&[JOURNAL])?;
    for path in TRUNCATED_FILES {
        if Path::new(path).exists() {
            fs::write(path, "").map_err(|source| QuiesceError::Write { path, source })?;
        }
    }
    for path in REMOVED_FILES {
        ignore_absent(fs::remove_file(path)).map_err(failed_to_remove(Path::new(path)))?;
    }
    for directory in CLEARED_DIRECTORIES {
        clear(Path::new(directory))?;
    }
    for directory in SEED_DIRECTORIES {
        warm_up_directory(Path::new(directory))?;
    }
    fs::write(MARK, "").map_err(|source| QuiesceError::Write { path: MARK, source })?;
    rustix::fs::sync();
    Ok(())
}

/// Stops running units.
fn stop(units: &[&str]) -> Result<(), SystemctlError> {
    // systemctl warns about sockets that remain active, which is intended.
    let arguments = ["stop", "--quiet", "--no-warn"];
    let arguments: Vec<&str> = arguments.iter().chain(units).copied().collect();
    systemctl(&arguments)
}

fn run_warm_up_commands() -> Result<(), QuiesceError> {
    let status = Command::new(RUNUSER_PATH)
        .args(["--login", "dev", "--command", WARM_UP_COMMANDS])
        .status()
        .map_err(|source| QuiesceError::Execute { source })?;
    if status.success() {
        return Ok(());
    }
    Err(QuiesceError::WarmUpCommands { status })
}

/// Writes and removes a file, so that the kernel caches the metadata that a
/// write to this directory needs.
fn warm_up_directory(directory: &Path) -> Result<(), QuiesceError> {
    let path = directory.join(".sandbox");
    fs::write(&path, "")
        .and_then(|()| fs::remove_file(&path))
        .map_err(|source| QuiesceError::WarmUpDirectory { path, source })
}

fn failed_to_remove(path: &Path) -> impl FnOnce(io::Error) -> QuiesceError {
    let path = path.to_owned();
    move |source| QuiesceError::Remove { path, source }
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes the content of a directory, except the socket directories that each
/// boot creates in `/tmp` (systemd, `tmpfiles.d/x11.conf`). It empties those.
pub(crate) fn clear(directory: &Path) -> Result<(), QuiesceError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed_to_remove(directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed_to_remove(directory))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed_to_remove(&path))?;
        if kind.is_dir() {
            if is_socket_directory(&entry.file_name()) {
                clear(&path)?;
            } else {
                ignore_absent(fs::remove_dir_all(&path)).map_err(failed_to_remove(&path))?;
            }
        } else {
            ignore_absent(fs::remove_file(&path)).map_err(failed_to_remove(&path))?;
        }
    }
    Ok(())
}

fn is_socket_directory(name: &OsStr) -> bool {
    [".X11-unix", ".ICE-unix", ".XIM-unix", ".font-unix"].contains(&&*name.to_string_lossy())
}

/// Executes the agent again. Returns only if that failed.
pub(crate) fn restart_agent() -> io::Error {
    Command::new(AGENT_PATH).arg("serve").exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_keeps_the_socket_directories() {
        let root = std::env::temp_dir().join(format!("guest-quiesce-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join(".X11-unix")).unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        fs::write(root.join(".hidden"), "x").unwrap();
        fs::write(root.join(".X11-unix/X0"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        clear(&root).unwrap();
        let left: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, [".X11-unix"]);
        assert!(
            fs::read_dir(root.join(".X11-unix"))
                .unwrap()
                .next()
                .is_none()
        );
        clear(&root.join("absent")).unwrap();
        fs::remove_dir_all(root).unwrap();
    }
}
