//! Starts a user's login shell with runuser(1). Through it, PAM and logind make
//! a session, which a static program cannot request from them.
//!
//! runuser starts this program in place of the shell. As for every login shell,
//! the first word begins with a dash. This program then enters the directory
//! that the host asked for, and becomes the shell.

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

/// The variable that carries the directory from [`command`] to [`run`].
const DIRECTORY: &str = "SANDBOX_LOGIN_DIRECTORY";

/// The variables that runuser(1) sets even if it is asked to keep them.
const SET_BY_RUNUSER: [&str; 5] = ["HOME", "SHELL", "USER", "LOGNAME", "PATH"];

/// Builds the command that begins a session of `user` with these variables.
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

/// Returns the list for `--whitelist-environment`. It omits names with a comma,
/// which separates the names of the list.
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
    let directory = std::env::var_os(DIRECTORY);
    if let Some(directory) = &directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        // The shell starts in the home directory, where runuser has started this.
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
    show_motd(&home);
    let mut name = OsString::from("-");
    name.push(shell.file_name().unwrap_or(shell.as_os_str()));
    let error = Command::new(&shell)
        .arg0(name)
        .env("SHELL", &shell)
        .env_remove(DIRECTORY)
        .exec();
    eprintln!("sandbox: could not execute `{}`: {error}", shell.display());
    // The status of a shell for a program that it could not execute.
    ExitCode::from(126)
}

/// Shows the message of the day at a terminal. Other logins get it from
/// pam_motd(8), which is not in runuser's PAM configuration.
fn show_motd(home: &Path) {
    let mut stdout = std::io::stdout();
    if stdout.is_terminal()
        && let Some(motd) = egress::motd(Path::new("/"), home)
    {
        // A closed terminal also ends the shell: ignore the error.
        let _ = stdout.write_all(motd.as_bytes());
        let _ = stdout.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_omits_names_with_a_comma_and_those_of_runuser() {
        let environment = ["A", "B,C", "HOME", "LANG", "PATH"]
            .map(|name| (name.into(), "x".into()))
            .into();
        assert_eq!(kept(&environment), "A,LANG");
    }
}
