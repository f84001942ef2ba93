//! A user's login shell, by way of runuser(1): PAM and logind make a session
//! of it, which a static program cannot ask them for.
//!
//! runuser starts this program in place of the shell, with a first word that
//! begins with a dash, as all login shells have; it enters the directory that
//! the host wants, and becomes the shell.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::accounts::User;
use super::session::begin_session;
use super::variables::Variables;
use crate::egress;
use crate::programs::{AGENT_PATH, RUNUSER_PATH};

/// The variable that tells the directory from the agent to the program that
/// runuser starts.
const DIRECTORY: &str = "SANDBOX_LOGIN_DIRECTORY";

/// What runuser(1) sets itself, whatever it is asked to keep.
const SET_BY_RUNUSER: [&str; 5] = ["HOME", "SHELL", "USER", "LOGNAME", "PATH"];

/// The command that begins a session of `user`, with these variables kept.
pub(super) fn command(
    user: &str,
    directory: Option<&Path>,
    mut environment: Variables,
    has_terminal: bool,
) -> Command {
    if let Some(directory) = directory {
        environment.insert(DIRECTORY.into(), directory.into());
    }
    let mut command = Command::new(RUNUSER_PATH);
    command
        .args(["--login", user, "--shell", AGENT_PATH])
        .arg("--whitelist-environment")
        .arg(kept(&environment))
        .current_dir("/")
        .env_clear()
        .envs(environment);
    let prepare = move || Ok(begin_session(has_terminal)?);
    // SAFETY: `begin_session` makes system calls only and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    command
}

/// The names of the variables for runuser's list; one with a comma cannot be
/// named there.
fn kept(environment: &Variables) -> OsString {
    let names: Vec<&OsStr> = environment
        .keys()
        .map(OsString::as_os_str)
        .filter(|name| !name.as_bytes().contains(&b','))
        .filter(|name| !SET_BY_RUNUSER.iter().any(|set| name == set))
        .collect();
    names.join(OsStr::new(","))
}

/// Becomes the login shell of the user who runs this.
pub(crate) fn run() -> ExitCode {
    let wanted = std::env::var_os(DIRECTORY);
    if let Some(directory) = &wanted
        && let Err(error) = std::env::set_current_dir(directory)
    {
        // runuser started this in the home directory.
        eprintln!(
            "sandbox: could not enter `{}`: {error}",
            directory.display()
        );
    }
    let uid = rustix::process::getuid().as_raw().to_string();
    let (shell, home) = match User::find(Path::new("/etc"), &uid) {
        Ok(Some(user)) => (user.shell, user.home),
        _ => ("/bin/sh".into(), "/".into()),
    };
    show_note(&home);
    let mut name = OsString::from("-");
    name.push(shell.file_name().unwrap_or(shell.as_os_str()));
    let error = Command::new(&shell)
        .arg0(name)
        .env("SHELL", &shell)
        .env_remove(DIRECTORY)
        .exec();
    eprintln!("sandbox: could not execute `{}`: {error}", shell.display());
    // As a shell says it of a program that it may not execute.
    ExitCode::from(126)
}

/// Shows at a terminal what pam_motd(8), which is no part of runuser's PAM,
/// shows at other logins.
fn show_note(home: &Path) {
    let mut stdout = std::io::stdout();
    if stdout.is_terminal()
        && let Some(note) = egress::note(Path::new("/"), home)
    {
        // A terminal that is gone ends the shell, too.
        let _ = stdout.write_all(note.as_bytes());
        let _ = stdout.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runuser_keeps() {
        let environment = ["A", "B,C", "HOME", "LANG", "PATH"]
            .map(|name| (name.into(), "x".into()))
            .into();
        assert_eq!(kept(&environment), "A,LANG");
    }
}
