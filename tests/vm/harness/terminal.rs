//! A command at a terminal, driven as a user would.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::pty::openpty;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::termios::Winsize;
use sandbox_test_support::shell_status;

use super::eventually;
use super::running::Transcript;

/// A command whose standard streams are one terminal.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: Transcript,
    /// The position up to which the test has read the screen.
    seen: usize,
}

impl Terminal {
    /// Starts `command` at a terminal of 24 lines and 80 columns.
    pub(crate) fn open(command: &Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let slave = File::from(pty.slave);
        // A new command: the leader of a process group cannot start a session.
        let mut fresh = Command::new(command.get_program());
        fresh
            .args(command.get_args())
            .env_clear()
            .envs(set_variables(command))
            // With 256 colours, Debian's prompt contains colour sequences.
            .env("TERM", "xterm")
            .current_dir(command.get_current_dir().unwrap())
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        // SAFETY: the closure makes two system calls and allocates nothing.
        unsafe {
            fresh.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        rustix::termios::tcsetwinsize(&pty.master, size(24, 80)).unwrap();
        let child = fresh.spawn().unwrap();
        // The command value holds the other side of the terminal.
        drop(fresh);
        let keyboard = File::from(pty.master);
        // Its thread ends when the last process has left the terminal.
        let (screen, _) = Transcript::of(keyboard.try_clone().unwrap());
        Self {
            child,
            keyboard,
            screen,
            seen: 0,
        }
    }

    /// Types these keys.
    pub(crate) fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this text appears after the text of the previous wait.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        self.seen = self.screen.expect(text, self.seen);
    }

    /// Resizes the window.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        rustix::termios::tcsetwinsize(&self.keyboard, size(rows, columns)).unwrap();
    }

    /// Returns all text that was shown.
    pub(crate) fn text(&self) -> String {
        self.screen.text()
    }

    /// Waits for the end of the command. Returns its status.
    #[track_caller]
    pub(crate) fn finish(mut self) -> i32 {
        let status = eventually(
            &format!("the end of a command that showed:\n{}", self.text()),
            || self.child.try_wait().unwrap(),
        );
        shell_status(status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Returns the variables that were set on a command.
fn set_variables(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)))
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
