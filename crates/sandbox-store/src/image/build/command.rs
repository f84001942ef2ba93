//! Runs the programs of a build: their lines are logged and followed, and the whole process
//! group ends with the build.

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

use super::super::error::ImageError;
use super::error::BuildError;
use sandbox_spec::ImageReference;

/// How long a cancelled build may go on before it is noticed.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);
/// How long killed processes may take to let go of their output.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// How many lines an error quotes.
const QUOTED_LINES: usize = 15;
/// Longer lines are split, so that a program without line ends cannot fill the memory.
const LINE_LIMIT_BYTES: usize = 16 << 10;

/// A wish to stop a build, shared with whoever hears of Ctrl-C.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks the build to stop; safe in a signal handler.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancelFlag::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the programs of one build have in common.
pub(super) struct Runner<'a> {
    name: &'a ImageReference,
    cancel: &'a CancelFlag,
    log: File,
    log_path: PathBuf,
}

impl<'a> Runner<'a> {
    /// A runner that starts the log anew.
    pub(super) fn new(
        name: &'a ImageReference,
        cancel: &'a CancelFlag,
        log_path: PathBuf,
    ) -> Result<Self, BuildError> {
        let log = super::super::files::open_private(&log_path)?;
        log.set_len(0).map_err(ImageError::io("empty", &log_path))?;
        Ok(Self {
            name,
            cancel,
            log,
            log_path,
        })
    }

    /// Fails when the build was cancelled.
    pub(super) fn check_cancelled(&self) -> Result<(), BuildError> {
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled {
                name: self.name.clone(),
            });
        }
        Ok(())
    }

    /// Writes a line of our own to the log.
    pub(super) fn note(&mut self, line: &str) -> Result<(), BuildError> {
        writeln!(self.log, "{line}")
            .map_err(ImageError::io("write", &self.log_path))
            .map_err(BuildError::from)
    }

    /// Runs `command`, which is `program` to people, to its end, giving each line that it or its children print to `on_line`.
    ///
    /// # Errors
    ///
    /// It cannot be started, fails, or the build is cancelled; then its process group is killed.
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
        // It holds the pipe's other end, and the end of the output is waited for.
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
            let more = more.map_err(ImageError::io("write", &self.log_path))?;
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
            program,
            status,
            last_lines: Vec::from(tail).join("\n"),
            log: self.log_path.clone(),
        })
    }
}

/// The program that ends a process group when this process is gone, however it went: its
/// standard input is a pipe that only this process holds the other end of. A user namespace
/// leaves no other way, as `PR_SET_PDEATHSIG` reaches mmdebstrap but not its children.
const WATCHDOG: [&str; 3] = ["/bin/sh", "-c", "read -r line; kill -KILL 0"];

/// Starts `command` in a process group of its own that does not outlive this process.
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

/// A watchdog that leads a process group, and the program in it. Dropping it kills the group.
struct ProcessGroup {
    watchdog: Child,
    _lifeline: PipeWriter,
    child: Option<Child>,
}

impl ProcessGroup {
    fn id(&self) -> Pid {
        Pid::from_raw(self.watchdog.id().cast_signed())
    }

    /// How the program ended.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child
            .as_mut()
            .expect("the program was started with the group")
            .wait()
    }

    /// Kills everything in the group. The programs run in namespaces of their own, whose mounts
    /// and remaining processes go with their first process.
    fn kill(&mut self) {
        // The watchdog is not reaped before `drop`, so the number cannot be another group's.
        if let Err(error) = killpg(self.id(), Signal::SIGKILL) {
            tracing::warn!("cannot kill process group {}: {error}", self.id());
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
        for process in self.child.iter_mut().chain([&mut self.watchdog]) {
            if let Err(error) = process.wait() {
                tracing::warn!("cannot wait for process {}: {error}", process.id());
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

    /// Waits at most `timeout` for output and hands over the lines that are complete.
    /// Returns whether more may come; only `on_line` and broken pipes fail.
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

    /// Waits until nobody can write any more: then all killed processes are gone.
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
    fn lines_of_both_streams_are_followed_and_logged() {
        let fixture = Fixture::new();
        let (result, lines) = fixture.run("echo one; echo two >&2; printf three");
        result.unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert!(fixture.log().ends_with("one\ntwo\nthree\n"));
    }

    #[test]
    fn failure_quotes_the_last_lines() {
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
    fn missing_program_is_named() {
        let fixture = Fixture::new();
        let log = fixture.directory.path().join("log");
        let mut runner = Runner::new(&fixture.name, &fixture.cancel, log).unwrap();
        let error = runner
            .run("program", Command::new("/nonexistent/program"), &mut |_| {})
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot run `program`");
    }

    #[test]
    fn cancelling_ends_the_whole_process_group() {
        let fixture = Fixture::new();
        let script = "sleep 1000 & echo $!; echo cancel; wait";
        let (result, lines) = fixture.run(script);
        assert!(matches!(result, Err(BuildError::Cancelled { .. })));
        // A killed process lets go of its output a moment before it is dead;
        // one that nobody reaps keeps its directory.
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
    fn cancelled_build_starts_nothing() {
        let fixture = Fixture::new();
        fixture.cancel.cancel();
        let (result, lines) = fixture.run("echo started");
        assert!(matches!(result, Err(BuildError::Cancelled { .. })));
        assert!(lines.is_empty());
    }
}
