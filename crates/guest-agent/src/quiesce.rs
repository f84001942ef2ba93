//! Prepares a settled guest for being saved as a template: what is restored
//! from it again and again must not bring along who it was.
//!
//! The agent itself begins anew afterwards: no conversation and no random
//! number of its own is saved.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{fs, io};

use crate::kernel;
use crate::programs::{AGENT_PATH, RUNUSER_PATH};
use crate::systemctl::{SystemctlError, systemctl};

/// There from the quiescence to the start of what was restored.
const MARK: &str = "/run/sandbox/quiesced";

/// A login on the console has the template's host name in its prompt; sshd
/// must not share its random state and keys with others.
const UNITS: [&str; 2] = ["serial-getty@ttyS0.service", "ssh.service"];

/// Systemd listens in its place: the first message starts it again, which then
/// is one of another machine.
const JOURNAL: &str = "systemd-journald.service";

/// Files that are emptied: who writes to them keeps mode and owner.
const EMPTIED: [&str; 3] = ["/var/log/wtmp", "/var/log/btmp", "/var/log/lastlog"];

/// Files that are removed.
const REMOVED: [&str; 6] = [
    "/home/dev/.bash_history",
    "/home/dev/.lesshst",
    "/root/.bash_history",
    "/run/motd.dynamic",
    "/var/lib/systemd/credential.secret",
    "/var/lib/systemd/random-seed",
];

/// Directories whose content is removed.
const CLEARED: [&str; 4] = ["/tmp", "/var/tmp", "/run/log/journal", "/var/log/journal"];

/// Directories that a seed is written to.
const WRITTEN_TO: [&str; 4] = ["/etc", "/etc/ssh", "/home/dev/.ssh", "/root/.ssh"];

/// What first commands need, so that it is in memory when they run: the page
/// cache is saved with the rest. As `dev`, in a session of its own.
const FIRST_COMMANDS: &str = "true; /bin/true; sh -c :; ls -la / >/dev/null; cat /etc/passwd >/dev/null; \
     env >/dev/null; id >/dev/null; pwd >/dev/null; uname -a >/dev/null; hostname >/dev/null; \
     printf '' | grep -q x; printf '' | head; echo | sed -n 1p; sleep 0; sudo -n true";

/// Why the guest cannot be saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuiesceError {
    #[error(transparent)]
    Systemctl(#[from] SystemctlError),
    #[error("could not remove `{path}`")]
    Remove { path: PathBuf, source: io::Error },
    #[error("could not write and remove `{path}`")]
    Rehearse { path: PathBuf, source: io::Error },
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
    FirstCommands { status: ExitStatus },
}

/// Whether the guest was prepared for being saved and has not been started
/// since.
pub(crate) fn is_quiescent() -> bool {
    Path::new(MARK).exists()
}

/// Takes the mark away: from now on the guest is somebody.
pub(crate) fn unmark() -> io::Result<()> {
    fs::remove_file(MARK)
}

/// Makes the guest nobody in particular.
pub(crate) fn run() -> Result<(), QuiesceError> {
    stop(&UNITS)?;
    kernel::replace_boot_id().map_err(|source| QuiesceError::BootId { source })?;
    kernel::drop_page_cache().map_err(|source| QuiesceError::Caches { source })?;
    run_first_commands()?;
    // Last, since the commands above are logged.
    stop(&[JOURNAL])?;
    for path in EMPTIED {
        if Path::new(path).exists() {
            fs::write(path, "").map_err(|source| QuiesceError::Write { path, source })?;
        }
    }
    for path in REMOVED {
        ignore_absent(fs::remove_file(path)).map_err(failed_to_remove(Path::new(path)))?;
    }
    for directory in CLEARED {
        clear(Path::new(directory))?;
    }
    for directory in WRITTEN_TO {
        rehearse(Path::new(directory))?;
    }
    fs::write(MARK, "").map_err(|source| QuiesceError::Write { path: MARK, source })?;
    rustix::fs::sync();
    Ok(())
}

/// Stops those that run.
fn stop(units: &[&str]) -> Result<(), SystemctlError> {
    // That a socket of theirs stays is no news.
    let arguments = ["stop", "--quiet", "--no-warn"];
    let arguments: Vec<&str> = arguments.iter().chain(units).copied().collect();
    systemctl(&arguments)
}

fn run_first_commands() -> Result<(), QuiesceError> {
    let status = Command::new(RUNUSER_PATH)
        .args(["--login", "dev", "--command", FIRST_COMMANDS])
        .status()
        .map_err(|source| QuiesceError::Execute { source })?;
    if status.success() {
        return Ok(());
    }
    Err(QuiesceError::FirstCommands { status })
}

/// Has the kernel read what it needs to write to a directory.
fn rehearse(directory: &Path) -> Result<(), QuiesceError> {
    let path = directory.join(".sandbox");
    fs::write(&path, "")
        .and_then(|()| fs::remove_file(&path))
        .map_err(|source| QuiesceError::Rehearse { path, source })
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

/// Removes what is in a directory, but for the empty places that each boot
/// makes in `/tmp` (`/usr/lib/tmpfiles.d/x11.conf`).
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
            if is_place(&entry.file_name()) {
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

fn is_place(name: &OsStr) -> bool {
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
    fn clearing_leaves_the_places_of_each_boot() {
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
