//! The line that sshd passes to the user's login shell, quoted so that a command arrives unchanged.
//!
//! sshd runs `SHELL -c LINE` (RFC 4254 section 6.5 leaves the form open). The quoting is valid in
//! all POSIX shells, bash and zsh, and prevents every interpretation. The line ends with `exec`, so
//! signals reach the command and its exit status is returned.

use std::os::unix::ffi::OsStrExt;

use super::error::SshError;
use sandbox::{CommandError, EnvironmentVariable};

use crate::GuestCommand;

/// The status of a command that could not be started, as in `docker exec` and `env`.
const NOT_STARTED: u8 = 125;

/// The maximum length of a line in bytes. The line is one argument of the login shell, which Linux
/// limits to `MAX_ARG_STRLEN` (32 pages) with the null byte.
const LINE_LIMIT: usize = 32 * 4096 - 1;

/// The users that can log in with the sandbox's key.
const LOGIN_USERS: [&str; 2] = ["dev", "root"];

impl GuestCommand {
    /// Returns the user to log in as: the command's user, or `root` for users without a key.
    pub fn login_user(&self) -> &str {
        if LOGIN_USERS.contains(&self.user.as_str()) {
            &self.user
        } else {
            "root"
        }
    }

    /// Returns the line for the login shell of [`GuestCommand::login_user`].
    ///
    /// # Errors
    /// Fails if the program is missing, a word has a null byte, or the line is too long for Linux.
    pub fn line(&self) -> Result<Vec<u8>, SshError> {
        let program = self.argv.first().ok_or(CommandError::Empty)?;
        let mut line = Vec::new();
        let other_user = self.login_user() != self.user;
        if other_user {
            line.extend(find_user(&self.user));
        }
        match &self.workdir {
            Some(workdir) => line.extend(enter(workdir.as_os_str().as_bytes())),
            // A login starts in the home directory.
            None if other_user => line.extend(br#"cd -- "$home" 2>/dev/null || cd /; "#),
            None => {}
        }
        line.extend(b"exec ");
        if other_user {
            line.extend(become_user());
        }
        line.extend(b"env --");
        for variable in &self.environment {
            push_word(&mut line, &assignment(variable));
        }
        if program.as_bytes().contains(&b'=') {
            // `env` would treat the program as a variable.
            line.extend(br#" sh -c 'exec "$0" "$@"'"#);
        }
        for word in &self.argv {
            push_word(&mut line, word.as_bytes());
        }
        if line.contains(&0) {
            return Err(CommandError::NullByte {
                what: "the command",
            }
            .into());
        }
        if line.len() > LINE_LIMIT {
            return Err(SshError::CommandTooLong {
                length: line.len(),
                limit: LINE_LIMIT,
            });
        }
        Ok(line)
    }
}

/// Returns the line for an interactive login shell in `workdir`.
///
/// If `workdir` cannot be entered, the line prints a message. The shell then starts in the home
/// directory, so that the user can fix the problem.
pub fn login_shell(workdir: &std::path::Path) -> Vec<u8> {
    let workdir = workdir.as_os_str().as_bytes();
    let mut line = b"cd --".to_vec();
    push_word(&mut line, &unambiguous(workdir));
    line.extend(b" 2>/dev/null || ");
    line.extend(complain(b"could not enter the directory", workdir, b""));
    line.extend(br#"exec "${SHELL:-/bin/sh}" -l"#);
    line
}

fn assignment(variable: &EnvironmentVariable) -> Vec<u8> {
    [
        variable.name().as_bytes(),
        b"=",
        variable.value().as_bytes(),
    ]
    .concat()
}

/// Returns code that sets the shell variables `name`, `uid`, `gid`, `home` and `shell` for `user`,
/// or exits.
fn find_user(user: &str) -> Vec<u8> {
    let mut line = b"entry=$(getent passwd --".to_vec();
    push_word(&mut line, user.as_bytes());
    line.extend(b") || { ");
    line.extend(complain(b"user", user.as_bytes(), b" not found"));
    line.extend(format!("exit {NOT_STARTED}; }}; ").as_bytes());
    for (variable, field) in [
        ("name", 1),
        ("uid", 3),
        ("gid", 4),
        ("home", 6),
        ("shell", 7),
    ] {
        line.extend(
            format!(r#"{variable}=$(printf %s "$entry" | cut -d: -f{field}); "#).as_bytes(),
        );
    }
    line
}

/// Returns code that continues as the user of [`find_user`], with the environment of a login.
fn become_user() -> Vec<u8> {
    concat!(
        r#"setpriv --reuid="$uid" --regid="$gid" --init-groups -- "#,
        "env -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS -u MAIL -- ",
        r#"HOME="$home" SHELL="$shell" USER="$name" LOGNAME="$name" "#,
    )
    .into()
}

fn enter(directory: &[u8]) -> Vec<u8> {
    let mut line = b"cd --".to_vec();
    push_word(&mut line, &unambiguous(directory));
    line.extend(b" 2>/dev/null || { ");
    line.extend(complain(b"could not enter the directory", directory, b""));
    line.extend(format!("exit {NOT_STARTED}; }}; ").as_bytes());
    line
}

/// Returns the path in a form that `CDPATH` and `cd -` do not affect.
fn unambiguous(directory: &[u8]) -> Vec<u8> {
    match directory.first() {
        Some(b'/') => directory.to_vec(),
        _ => [b"./", directory].concat(),
    }
}

/// Returns code that prints `sandbox: START `WORD`END in the sandbox` to standard error.
fn complain(start: &[u8], word: &[u8], end: &[u8]) -> Vec<u8> {
    let mut line = br"printf 'sandbox: %s `%s`%s in the sandbox\n'".to_vec();
    for part in [start, word, end] {
        push_word(&mut line, part);
    }
    line.extend(b" >&2; ");
    line
}

/// Appends a blank and `word` in single quotes, each single quote in it as `'\''`.
fn push_word(line: &mut Vec<u8>, word: &[u8]) {
    line.extend(b" '");
    for &byte in word {
        match byte {
            b'\'' => line.extend(br"'\''"),
            _ => line.push(byte),
        }
    }
    line.push(b'\'');
}

#[cfg(test)]
mod tests;
