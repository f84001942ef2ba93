//! The private directories of a test, and runs of the command in them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::leftovers::{self, Process};
use crate::{Output, write_script};

/// The directories of one test: a home, a project in which commands run, one for
/// sockets and one for temporary files. Dropping it fails the test if a process or
/// a file of a sandbox is left.
pub struct TestEnvironment {
    program: PathBuf,
    root: TempDir,
    variables: Vec<(OsString, OsString)>,
}

impl TestEnvironment {
    /// Creates empty directories, and an environment with only the variables of a login.
    /// `program` is the program under test, `env!("CARGO_BIN_EXE_sandbox")`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        // Not below `TMPDIR`: a long path would move the sockets elsewhere.
        let root = tempfile::Builder::new()
            .prefix("sandbox-test-")
            .tempdir_in("/tmp")
            .unwrap();
        let environment = Self {
            program: program.into(),
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
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Replaces QEMU by a script that runs these lines of shell first. `$*` are QEMU's
    /// arguments, `$root` is this environment's directory, `$$` is the later QEMU.
    pub fn qemu_after(self, lines: &str) -> Self {
        let program = self.root().join("qemu");
        let root = self.root().display();
        let script = format!("#!/bin/sh\nroot='{root}'\n{lines}\nexec qemu-system-x86_64 \"$@\"\n");
        write_script(&program, &script);
        self.variable("SANDBOX_QEMU", program)
    }

    /// Returns the program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the parent of all the other directories.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns `HOME`.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns the directory in which commands run.
    pub fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// Returns `XDG_RUNTIME_DIR`, which holds the short socket directories.
    pub fn runtime(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// Returns `TMPDIR`.
    pub fn temporary(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    /// Returns the state directory of all sandboxes.
    pub fn state(&self) -> PathBuf {
        self.home().join(".cache/sandbox")
    }

    /// Returns the image store.
    pub fn images(&self) -> PathBuf {
        self.state().join("kvm-cache")
    }

    /// Returns the state directory of the sandbox `name`.
    pub fn sandbox(&self, name: &str) -> PathBuf {
        self.state().join("kvm-vms").join(name)
    }

    /// Returns `sandbox ARGUMENTS…` in the project directory, with empty stdin and a
    /// new process group.
    pub fn command<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Command {
        let mut command = self.other_program(&self.program);
        command.args(arguments);
        command
    }

    /// Returns another program, otherwise like [`Self::command`].
    pub fn other_program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.project())
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Runs `sandbox ARGUMENTS…` to its end.
    pub fn run<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// Returns the leftovers of its sandboxes, and kills their processes.
    pub fn leftovers(&self) -> Vec<String> {
        leftovers::collect(self)
    }

    /// Returns the processes that belong to this environment.
    pub fn processes(&self) -> Vec<Process> {
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
