//! Shared by the tests of the whole binary: private home directories, runs of the
//! command, and the check that no process or file is left behind.

#![allow(dead_code, reason = "each test binary uses a different part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test fails")]

mod leftovers;
mod output;
pub(crate) mod stock_machine;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

pub(crate) use output::Output;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sandbox");

/// The directories of one test: a home, a project in which commands run, one for
/// sockets and one for temporary files. Dropping it fails the test if a process or
/// a file of a sandbox is left.
pub(crate) struct TestEnvironment {
    root: TempDir,
    variables: Vec<(OsString, OsString)>,
}

impl TestEnvironment {
    /// Creates empty directories, and an environment with only the variables of a login.
    pub(crate) fn new() -> Self {
        // Not below `TMPDIR`: a long path would move the sockets elsewhere.
        let root = tempfile::Builder::new()
            .prefix("sandbox-test-")
            .tempdir_in("/tmp")
            .unwrap();
        let environment = Self {
            root,
            variables: Vec::new(),
        };
        for directory in [
            environment.home(),
            environment.project(),
            environment.runtime(),
            environment.temporary(),
        ] {
            fs::DirBuilder::new().mode(0o700).create(directory).unwrap();
        }
        let home = environment.home();
        let runtime = environment.runtime();
        let temporary = environment.temporary();
        environment
            .variable("HOME", home)
            .variable("XDG_RUNTIME_DIR", runtime)
            .variable("TMPDIR", temporary)
            .variable("PATH", std::env::var_os("PATH").unwrap_or_default())
            .variable("LANG", "C.UTF-8")
            .variable("TERM", "xterm-256color")
    }

    /// Sets an environment variable of every command.
    pub(crate) fn variable(
        mut self,
        name: impl Into<OsString>,
        value: impl Into<OsString>,
    ) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Replaces QEMU by a script that runs these lines of shell first. `$*` are QEMU's
    /// arguments, `$root` is this environment's directory, `$$` is the later QEMU.
    pub(crate) fn qemu_after(self, lines: &str) -> Self {
        let program = self.root().join("qemu");
        let root = self.root().display();
        let script = format!("#!/bin/sh\nroot='{root}'\n{lines}\nexec qemu-system-x86_64 \"$@\"\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self.variable("SANDBOX_QEMU", program)
    }

    /// Returns the parent of all the other directories.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns `HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns the directory in which commands run.
    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// Returns `XDG_RUNTIME_DIR`, which holds the short socket directories.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// Returns `TMPDIR`.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    /// Returns the state directory of all sandboxes.
    pub(crate) fn state(&self) -> PathBuf {
        self.home().join(".cache/sandbox")
    }

    /// Returns the image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.state().join("kvm-cache")
    }

    /// Returns the state directory of the sandbox `name`.
    pub(crate) fn sandbox(&self, name: &str) -> PathBuf {
        self.state().join("kvm-vms").join(name)
    }

    /// Returns `sandbox ARGUMENTS…` in the project directory, with empty stdin and a
    /// new process group.
    pub(crate) fn command<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.project())
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Runs `sandbox ARGUMENTS…` to its end.
    pub(crate) fn run<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// Returns the leftovers of its sandboxes, and kills their processes.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        leftovers::collect(self)
    }

    /// Returns the processes that belong to this environment.
    pub(crate) fn processes(&self) -> Vec<leftovers::Process> {
        leftovers::processes_mentioning(self.root.path())
    }
}

impl Drop for TestEnvironment {
    fn drop(&mut self) {
        let left = leftovers::collect(self);
        // A second panic would abort the test run and hide the first.
        if !left.is_empty() && !std::thread::panicking() {
            panic!("the test left something behind:\n{}", left.join("\n"));
        }
    }
}
