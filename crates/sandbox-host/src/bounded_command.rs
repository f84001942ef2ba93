//! Runs a program for its output, with a time limit.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// The maximum that is read of each output, in bytes. No caller needs more.
const LARGEST_OUTPUT: u64 = 1024 * 1024;

/// The status and the output of a program that ended.
#[derive(Debug)]
pub struct BoundedOutput {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output, then standard error; at most 1 MiB of each.
    pub text: String,
}

/// Runs `command` without standard input, in a process group of its own.
///
/// # Errors
///
/// Fails if the program cannot start. Fails with [`io::ErrorKind::TimedOut`] if it has not ended
/// after `limit`, and kills its process group.
pub fn run_bounded(command: &mut Command, limit: Duration) -> io::Result<BoundedOutput> {
    // Files need no reader while the program runs, unlike pipes. A grandchild that keeps them open
    // blocks nothing.
    let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(errors.try_clone()?)
        .process_group(0)
        .spawn()?;
    let ended = wait_until_ended(&child, limit);
    if !matches!(ended, Ok(true)) {
        // This fails only if the group has just ended.
        let _ = kill_process_group(pid_of(&child), Signal::KILL);
    }
    let status = child.wait()?;
    if !ended? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let text = read_from_start(&mut output)? + &read_from_start(&mut errors)?;
    Ok(BoundedOutput { status, text })
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn wait_until_ended(child: &Child, limit: Duration) -> io::Result<bool> {
    let pidfd = pidfd_open(pid_of(child), PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        // A pidfd becomes readable when its process ends (pidfd_open(2)).
        match poll(
            &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn read_from_start(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(LARGEST_OUTPUT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn ended_program_returns_both_outputs_and_the_status() {
        let script = "echo problem >&2; echo answer; exit 3";
        let output = run_bounded(&mut shell(script), Duration::from_secs(60)).unwrap();
        assert_eq!(output.text, "answer\nproblem\n");
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn output_larger_than_a_pipe_does_not_block() {
        let script = "head -c 3000000 /dev/zero";
        let output = run_bounded(&mut shell(script), Duration::from_secs(60)).unwrap();
        assert_eq!(output.text.len() as u64, LARGEST_OUTPUT);
    }

    #[test]
    fn program_beyond_its_limit_is_killed_with_its_children() {
        let home = tempfile::tempdir().unwrap();
        let pid_file = home.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
        let started = || std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'));
        let mut limit = Duration::from_millis(50);
        // A busy machine can need longer to start a shell.
        while !started() {
            let error = run_bounded(&mut shell(&script), limit).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            limit *= 2;
        }
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        // A killed process ends some time after the signal.
        let is_gone = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()));
            status.map_or(true, |status| status.contains("State:\tZ"))
        };
        let end = Instant::now() + Duration::from_secs(60);
        while !is_gone() {
            assert!(Instant::now() < end, "the child {pid} still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn missing_program_is_not_found() {
        let mut command = Command::new("/nonexistent/program");
        let error = run_bounded(&mut command, Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
