//! The one line that sshd hands to the user's login shell, such that a command arrives exactly.
//!
//! sshd runs `SHELL -c LINE` (RFC 4254 section 6.5 leaves the form open). Every word is quoted the
//! way that the POSIX shells, bash and zsh agree on, so nothing in it is ever interpreted. The line
//! ends in an `exec`, so that signals and exit status are the command's own.

use std::os::unix::ffi::OsStrExt;

use super::error::SshError;
use sandbox::{CommandError, EnvironmentVariable};

use crate::session::GuestCommand;

/// The status of a command that could not even be tried, as `docker exec` and `env` use it.
const NOT_STARTED: u8 = 125;

/// The most bytes in one argument of a program: `MAX_ARG_STRLEN` (Linux, 32 pages) less the null
/// byte. The whole line is one argument of the login shell.
const LONGEST_LINE: usize = 32 * 4096 - 1;

/// The users that sshd lets in with the sandbox's key.
const LOGIN_USERS: [&str; 2] = ["dev", "root"];

impl GuestCommand {
    /// Who has to log in to run this: the user itself, or `root` for those who have no key.
    pub fn login_user(&self) -> &str {
        if LOGIN_USERS.contains(&self.user.as_str()) {
            &self.user
        } else {
            "root"
        }
    }

    /// The line for the login shell of [`GuestCommand::login_user`].
    ///
    /// # Errors
    /// When there is no program, a word holds a null byte, or the line is too long for Linux.
    pub fn line(&self) -> Result<Vec<u8>, SshError> {
        let program = self.argv.first().ok_or(CommandError::Empty)?;
        let mut line = Vec::new();
        let other_user = self.login_user() != self.user;
        if other_user {
            line.extend(find_user(&self.user));
        }
        match &self.workdir {
            Some(workdir) => line.extend(enter(workdir.as_os_str().as_bytes())),
            // Who logs in is at home already.
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
            // `env` would take the program for one more variable.
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
        if line.len() > LONGEST_LINE {
            return Err(SshError::CommandTooLong {
                length: line.len(),
                limit: LONGEST_LINE,
            });
        }
        Ok(line)
    }
}

/// The line for an interactive login shell of the user who logs in, in `workdir`. Where that cannot
/// be entered, the shell says so and starts in the home directory: it is what mends things.
pub fn login_shell(workdir: &std::path::Path) -> Vec<u8> {
    let workdir = workdir.as_os_str().as_bytes();
    let mut line = b"cd --".to_vec();
    push_word(&mut line, &unambiguous(workdir));
    line.extend(b" 2>/dev/null || ");
    line.extend(complain(b"cannot enter the directory", workdir));
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

/// Sets the shell variables `uid`, `gid`, `home` and `shell` for `user`, or ends.
fn find_user(user: &str) -> Vec<u8> {
    let mut line = b"entry=$(getent passwd --".to_vec();
    push_word(&mut line, user.as_bytes());
    line.extend(b") || { ");
    line.extend(complain(b"there is no user", user.as_bytes()));
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

/// Continues as the user found by [`find_user`], with what a login would set for that user.
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
    line.extend(complain(b"cannot enter the directory", directory));
    line.extend(format!("exit {NOT_STARTED}; }}; ").as_bytes());
    line
}

/// A relative path that neither `CDPATH` nor `cd -` can catch.
fn unambiguous(directory: &[u8]) -> Vec<u8> {
    match directory.first() {
        Some(b'/') => directory.to_vec(),
        _ => [b"./", directory].concat(),
    }
}

/// Prints `sandbox: PROBLEM `WORD` in the sandbox` to standard error.
fn complain(problem: &[u8], word: &[u8]) -> Vec<u8> {
    let mut line = br"printf 'sandbox: %s `%s` in the sandbox\n'".to_vec();
    push_word(&mut line, problem);
    push_word(&mut line, word);
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
