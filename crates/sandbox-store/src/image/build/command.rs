//! Runs the programs of a build. Their output is logged and followed, and the whole process group
//! ends with the build.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sandbox_host::files::FileError;
use sandbox_spec::ImageReference;

use super::super::files;
use super::error::BuildError;

/// The interval at which a build checks whether it is cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);
/// The time in which killed processes close their output.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// The number of lines that an error quotes.
const QUOTED_LINES: usize = 15;
/// The length beyond which a line is split, so that output without line ends cannot fill the
/// memory.
const LINE_LIMIT_BYTES: usize = 16 << 10;

/// A request to stop a build, shared with the handler of Ctrl-C.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks the build to stop; safe in a signal handler.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether [`CancelFlag::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs the programs of one build.
pub(super) struct Runner<'a> {
    name: &'a ImageReference,
    cancel: &'a CancelFlag,
    log: File,
    log_path: PathBuf,
}

impl<'a> Runner<'a> {
    /// Returns a runner with an empty log.
    pub(super) fn new(
        name: &'a ImageReference,
        cancel: &'a CancelFlag,
        log_path: PathBuf,
    ) -> Result<Self, BuildError> {
        let log = files::open_private(&log_path)?;
        log.set_len(0).map_err(FileError::new("empty", &log_path))?;
        Ok(Self {
            name,
            cancel,
            log,
            log_path,
        })
    }

    /// Fails if the build was cancelled.
    pub(super) fn check_cancelled(&self) -> Result<(), BuildError> {
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled {
                name: self.name.clone(),
            });
        }
        Ok(())
    }

    /// Appends a line to the log.
    pub(super) fn note(&mut self, line: &str) -> Result<(), BuildError> {
        writeln!(self.log, "{line}")
            .map_err(FileError::new("write", &self.log_path))
            .map_err(BuildError::from)
    }

    /// Runs `command` to its end, and passes each line of output of its process group to `on_line`.
    /// Errors call the command `program`.
    ///
    /// # Errors
    ///
    /// The command cannot be started or fails, or the build is cancelled. Then its process group
    /// is killed.
    pub(super) fn run(
        &mut self,
        program: &'static str,
        mut command: Command,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), BuildError> {
        self.check_cancelled()?;
        self.note(&format!("+ {}", describe(&command)))?;
        let (reader, mut group) =
            start(&mut command).map_err(|source| BuildError::Start { program, source })?;
        // The command contains the writing end of the pipe, which would keep the output open.
        drop(command);
        let mut lines = Lines::new(reader);
        let mut tail = VecDeque::new();
        loop {
            let more = lines.wait(CANCEL_INTERVAL, &mut |line| {
                on_line(line);
                if tail.len() == QUOTED_LINES {
                    tail.pop_front();
                }
                tail.push_back(line.to_owned());
                writeln!(self.log, "{line}")
            });
            let more = more.map_err(FileError::new("write", &self.log_path))?;
            if self.cancel.is_cancelled() {
                group.kill();
                lines.drain(END_DEADLINE);
                self.check_cancelled()?;
            }
            if !more {
                break;
            }
        }
        let status = group
            .wait()
            .map_err(|source| BuildError::Start { program, source })?;
        if status.success() {
            return Ok(());
        }
        Err(BuildError::Program {
            name: self.name.clone(),
            program,
            status,
            last_lines: Vec::from(tail).join("\n"),
            log: self.log_path.clone(),
        })
    }
}

/// A program that kills its process group when this process ends. Its standard input is a pipe
/// whose other end only this process has. `PR_SET_PDEATHSIG` reaches mmdebstrap but not its
/// children, and a user namespace allows no other way.
const WATCHDOG: [&str; 3] = ["/bin/sh", "-c", "read -r line; kill -KILL 0"];

/// Starts `command` in its own process group, which does not outlive this process.
fn start(command: &mut Command) -> io::Result<(PipeReader, ProcessGroup)> {
    let (lifeline_end, lifeline) = io::pipe()?;
    let watchdog = Command::new(WATCHDOG[0])
        .args(&WATCHDOG[1..])
        .stdin(lifeline_end)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let mut group = ProcessGroup {
        watchdog,
        _lifeline: lifeline,
        child: None,
    };
    let (reader, writer) = io::pipe()?;
    let child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(group.id().as_raw())
        .spawn()?;
    group.child = Some(child);
    Ok((reader, group))
}

/// A process group with a watchdog as its leader and a program. Dropping it kills the group.
struct ProcessGroup {
    watchdog: Child,
    _lifeline: PipeWriter,
    child: Option<Child>,
}

impl ProcessGroup {
    fn id(&self) -> Pid {
        Pid::from_raw(self.watchdog.id().cast_signed())
    }

    /// Waits for the program and returns its status.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child
            .as_mut()
            .expect("the program was started with the group")
            .wait()
    }

    /// Kills all processes in the group. The programs run in their own namespaces, whose mounts and
    /// remaining processes end with their first process.
    fn kill(&mut self) {
        // The watchdog is not reaped before `drop`, so no other group has this id.
        if let Err(error) = killpg(self.id(), Signal::SIGKILL) {
            tracing::warn!("could not kill process group {}: {error}", self.id());
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
        for process in self.child.iter_mut().chain([&mut self.watchdog]) {
            if let Err(error) = process.wait() {
                tracing::warn!("could not wait for process {}: {error}", process.id());
            }
        }
    }
}

/// The lines of a pipe.
struct Lines {
    reader: PipeReader,
    partial: Vec<u8>,
}

impl Lines {
    fn new(reader: PipeReader) -> Self {
        Self {
            reader,
            partial: Vec::new(),
        }
    }

    /// Waits at most `timeout` for output, and passes complete lines to `on_line`. Returns whether
    /// more output may follow. Fails only if `on_line` or the pipe does.
    fn wait(
        &mut self,
        timeout: Duration,
        on_line: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut descriptors, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(true),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0; 8192];
        let count = self.reader.read(&mut buffer)?;
        self.partial.extend_from_slice(&buffer[..count]);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            on_line(String::from_utf8_lossy(&line[..end]).trim_end())?;
        }
        if self.partial.len() > LINE_LIMIT_BYTES || (count == 0 && !self.partial.is_empty()) {
            let line = std::mem::take(&mut self.partial);
            on_line(&String::from_utf8_lossy(&line))?;
        }
        Ok(count > 0)
    }

    /// Waits until no process has the pipe open, so that all killed processes have ended.
    fn drain(&mut self, deadline: Duration) {
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            if !matches!(self.wait(CANCEL_INTERVAL, &mut |_| Ok(())), Ok(true)) {
                return;
            }
        }
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    shell_words::join(words.map(|word| word.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        name: ImageReference,
        cancel: CancelFlag,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                name: "test".parse().unwrap(),
                cancel: CancelFlag::default(),
            }
        }

        fn run(&self, script: &str) -> (Result<(), BuildError>, Vec<String>) {
            let log = self.directory.path().join("log");
            let mut runner = Runner::new(&self.name, &self.cancel, log).unwrap();
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            let mut lines = Vec::new();
            let result = runner.run("sh", command, &mut |line| {
                lines.push(line.to_owned());
                if line == "cancel" {
                    self.cancel.cancel();
                }
            });
            (result, lines)
        }

        fn log(&self) -> String {
            std::fs::read_to_string(self.directory.path().join("log")).unwrap()
        }
    }

    #[test]
    fn run_logs_and_follows_both_streams() {
        let fixture = Fixture::new();
        let (result, lines) = fixture.run("echo one; echo two >&2; printf three");
        result.unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert!(fixture.log().ends_with("one\ntwo\nthree\n"));
    }

    #[test]
    fn run_failing_program_quotes_last_lines() {
        let (result, _) = Fixture::new().run("seq 1 100; exit 3");
        match result.unwrap_err() {
            BuildError::Program {
                program,
                status,
                last_lines,
                ..
            } => {
                assert_eq!(program, "sh");
                assert_eq!(status.code(), Some(3));
                assert_eq!(last_lines.lines().count(), QUOTED_LINES);
                assert!(last_lines.ends_with("99\n100"));
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn run_missing_program_names_it() {
        let fixture = Fixture::new();
        let log = fixture.directory.path().join("log");
        let mut runner = Runner::new(&fixture.name, &fixture.cancel, log).unwrap();
        let error = runner
            .run("program", Command::new("/nonexistent/program"), &mut |_| {})
            .unwrap_err();
        assert_eq!(error.to_string(), "could not run `program`");
    }

    #[test]
    fn cancel_kills_process_group() {
        let fixture = Fixture::new();
        let script = "sleep 1000 & echo $!; echo cancel; wait";
        let (result, lines) = fixture.run(script);
        assert!(matches!(result, Err(BuildError::Cancelled { .. })));
        // A killed process closes its output shortly before it is dead. Until it is reaped, its
        // directory in `/proc` exists.
        let is_dead = || {
            let status = std::fs::read_to_string(format!("/proc/{}/stat", lines[0]));
            status.is_err() || status.unwrap().contains(" Z ")
        };
        let end = Instant::now() + END_DEADLINE;
        while !is_dead() {
            assert!(Instant::now() < end, "{} still runs", lines[0]);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn run_in_cancelled_build_starts_nothing() {
        let fixture = Fixture::new();
        fixture.cancel.cancel();
        let (result, lines) = fixture.run("echo started");
        assert!(matches!(result, Err(BuildError::Cancelled { .. })));
        assert!(lines.is_empty());
    }
}
