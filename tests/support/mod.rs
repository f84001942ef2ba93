//! What the tests of the whole binary share: private homes, runs of the
//! command, and the check that nothing lingers.

#![allow(dead_code, reason = "each test binary uses a part of its own")]
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

/// A machine's worth of directories for one test: a home, a project in which
/// commands run, a directory for sockets and one for temporary files. When it
/// ends, the test fails if a process or a file of a sandbox is left.
pub(crate) struct TestEnvironment {
    root: TempDir,
    variables: Vec<(OsString, OsString)>,
}

impl TestEnvironment {
    /// Fresh directories, and an environment of nothing but what a login has.
    pub(crate) fn new() -> Self {
        // Not below `TMPDIR`: a long path would move the sockets.
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

    /// Sets a variable for every command.
    pub(crate) fn variable(
        mut self,
        name: impl Into<OsString>,
        value: impl Into<OsString>,
    ) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// A QEMU that first does what these lines of shell say: `$*` are its
    /// arguments, `$root` is this environment's directory, `$$` will be QEMU.
    pub(crate) fn qemu_after(self, lines: &str) -> Self {
        let program = self.root().join("qemu");
        let root = self.root().display();
        let script = format!("#!/bin/sh\nroot='{root}'\n{lines}\nexec qemu-system-x86_64 \"$@\"\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self.variable("SANDBOX_QEMU", program)
    }

    /// The directory of all the others.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// `HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The directory in which commands run.
    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// `XDG_RUNTIME_DIR`: short socket directories lie in it.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// `TMPDIR`.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    /// The product's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.home().join(".cache/sandbox")
    }

    /// The image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.state().join("kvm-cache")
    }

    /// The state directory of the sandbox `name`.
    pub(crate) fn sandbox(&self, name: &str) -> PathBuf {
        self.state().join("kvm-vms").join(name)
    }

    /// `sandbox ARGUMENTS…` in the project directory with nothing on stdin, in
    /// a process group of its own.
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

    /// Names what is left of its sandboxes, and kills what still runs of them.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        leftovers::collect(self)
    }

    /// Processes that belong to this environment.
    pub(crate) fn processes(&self) -> Vec<leftovers::Process> {
        leftovers::processes_mentioning(self.root.path())
    }
}

impl Drop for TestEnvironment {
    fn drop(&mut self) {
        let left = leftovers::collect(self);
        // A second panic would abort the run and hide the first.
        if !left.is_empty() && !std::thread::panicking() {
            panic!("the test left something behind:\n{}", left.join("\n"));
        }
    }
}
