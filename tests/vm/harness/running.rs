//! Commands whose output a test can follow.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use sandbox_test_support::{Output, shell_status};

use super::{DEADLINE, eventually_within};

/// The output of a stream so far.
#[derive(Clone, Default)]
pub(super) struct Transcript(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Transcript {
    /// Collects all of `source` in a new thread.
    pub(super) fn of(mut source: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let transcript = Self::default();
        let writer = transcript.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            loop {
                // Reading a terminal fails once its other side is closed.
                let length = source.read(&mut buffer).unwrap_or(0);
                let (state, changed) = &*writer.0;
                let mut state = state.lock().unwrap();
                state.bytes.extend(&buffer[..length]);
                state.ended = length == 0;
                changed.notify_all();
                if length == 0 {
                    break;
                }
            }
        });
        (transcript, thread)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().bytes.clone()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits for `needle` at or after `start`. Returns the position after it.
    #[track_caller]
    pub(super) fn expect(&self, needle: &str, start: usize) -> usize {
        let (state, changed) = &*self.0;
        let find = |state: &State| {
            let rest = &state.bytes[start.min(state.bytes.len())..];
            rest.windows(needle.len())
                .position(|window| window == needle.as_bytes())
                .map(|position| start + position + needle.len())
        };
        let guard = state.lock().unwrap();
        let (state, _) = changed
            .wait_timeout_while(guard, DEADLINE, |state| {
                !state.ended && find(state).is_none()
            })
            .unwrap();
        let found = find(&state);
        let seen = String::from_utf8_lossy(&state.bytes).into_owned();
        drop(state);
        found.unwrap_or_else(|| panic!("{needle:?} did not appear in:\n{seen}"))
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

/// A started command. Dropping it kills its process group if it has not ended.
pub(crate) struct Running {
    words: String,
    child: Child,
    stdout: Transcript,
    stderr: Transcript,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts the command, which must have a new process group.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stdout_reader) = Transcript::of(child.stdout.take().unwrap());
        let (stderr, stderr_reader) = Transcript::of(child.stderr.take().unwrap());
        Self {
            words: format!("{:?}", command.get_args().collect::<Vec<_>>()),
            child,
            stdout,
            stderr,
            readers: vec![stdout_reader, stderr_reader],
        }
    }

    /// Starts the command and writes `input` to its stdin from a thread.
    pub(crate) fn with_input(command: &mut Command, input: Vec<u8>) -> Self {
        let mut running = Self::start(command.stdin(Stdio::piped()));
        let mut stdin = running.child.stdin.take().unwrap();
        running.readers.push(std::thread::spawn(move || {
            // The command may end before it has read everything.
            let _ = stdin.write_all(&input);
        }));
        running
    }

    /// Waits for a text on stderr.
    #[track_caller]
    pub(crate) fn expect_stderr(&self, text: &str) {
        self.stderr.expect(text, 0);
    }

    /// Waits for a text on stdout.
    #[track_caller]
    pub(crate) fn expect_stdout(&self, text: &str) {
        self.stdout.expect(text, 0);
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Returns whether the command has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal to the command only, not to its process group.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for the end. Returns the status, stdout as bytes, and stderr.
    #[track_caller]
    pub(crate) fn finish_bytes(self) -> (i32, Vec<u8>, String) {
        self.finish_bytes_within(DEADLINE)
    }

    #[track_caller]
    fn finish_bytes_within(mut self, patience: Duration) -> (i32, Vec<u8>, String) {
        let (child, stderr) = (&mut self.child, &self.stderr);
        let what = format!("the end of {}", self.words);
        let status = eventually_within(patience, &what, || child.try_wait().unwrap().ok_or(stderr));
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (
            shell_status(status),
            self.stdout.bytes(),
            self.stderr.text(),
        )
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn finish(self) -> Output {
        self.finish_within(DEADLINE)
    }

    /// Waits for the end, with another deadline.
    #[track_caller]
    pub(crate) fn finish_within(self, patience: Duration) -> Output {
        let (status, stdout, stderr) = self.finish_bytes_within(patience);
        Output {
            status,
            stdout: String::from_utf8(stdout).unwrap(),
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
