//! The host of a test: a home, a project, the image, and slots to run machines.

use std::ffi::OsStr;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox_test_support::{Output, TestEnvironment};
use serde_json::Value;

use super::image::IMAGE;
use super::namespace::Namespace;
use super::running::Running;
use super::slots::Slots;
use super::{eventually, eventually_or_report, image};
use crate::PROGRAM;

/// A [`TestEnvironment`] that can boot [`IMAGE`]. The test fails if a process or a
/// file of a machine is left at its end.
pub(crate) struct Host {
    // Dropped before the slots: its processes end before another test may start some.
    environment: TestEnvironment,
    project: PathBuf,
    /// The network in which commands run, if not the network of the real host.
    network: Option<Namespace>,
    _slots: Slots,
}

impl Host {
    /// Creates a host for one machine, started by `sandbox --kvm` in its project.
    pub(crate) fn new() -> Self {
        Self::with_machines(1)
    }

    /// Creates a host for that many machines at once.
    pub(crate) fn with_machines(machines: usize) -> Self {
        Self::prepare(machines, "project", |environment| environment)
    }

    /// Creates a host whose project directory has this name.
    pub(crate) fn with_project(name: &str) -> Self {
        Self::prepare(1, name, |environment| environment)
    }

    /// Creates a host with more or different environment variables.
    pub(crate) fn with_environment(adapt: impl FnOnce(TestEnvironment) -> TestEnvironment) -> Self {
        Self::prepare(1, "project", adapt)
    }

    /// Creates a host in this network, with more or different environment variables.
    pub(crate) fn in_network(
        network: Namespace,
        adapt: impl FnOnce(TestEnvironment) -> TestEnvironment,
    ) -> Self {
        let mut host = Self::with_environment(adapt);
        host.network = Some(network);
        host
    }

    /// Creates a host for that many machines, with the shared images and a private, empty
    /// template store. A build in the background is a machine, too.
    pub(crate) fn with_own_templates(
        machines: usize,
        adapt: impl FnOnce(TestEnvironment) -> TestEnvironment,
    ) -> Self {
        let host = Self::prepare(machines, "project", adapt);
        fs::remove_file(host.images()).unwrap();
        fs::create_dir(host.images()).unwrap();
        for part in ["blobs", "images"] {
            symlink(image::store().join(part), host.images().join(part)).unwrap();
        }
        host
    }

    /// Replaces the templates of a private store with copies of the shared templates.
    pub(crate) fn copy_templates(&self) {
        let own = self.images().join("templates");
        if own.exists() {
            fs::remove_dir_all(&own).unwrap();
        }
        let status = Command::new("cp")
            .args(["--archive", "--sparse=always"])
            .args([&image::store().join("templates"), &own])
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    /// Creates a host whose machines boot, for tests of the boot itself.
    pub(crate) fn cold() -> Self {
        Self::with_environment(|environment| environment.variable("SANDBOX_TEMPLATES", "off"))
    }

    fn prepare(
        machines: usize,
        project: &str,
        adapt: impl FnOnce(TestEnvironment) -> TestEnvironment,
    ) -> Self {
        let store = image::store();
        let slots = Slots::take(machines);
        let environment = TestEnvironment::new(PROGRAM)
            .variable("SANDBOX_IMAGE", IMAGE)
            .variable("SANDBOX_ACCEL", "tcg")
            .variable("SANDBOX_TEMPLATES", "manual");
        let environment = adapt(environment);
        let project = environment.root().join(project);
        fs::create_dir_all(&project).unwrap();
        fs::create_dir_all(environment.state()).unwrap();
        symlink(store, environment.images()).unwrap();
        Self {
            environment,
            project,
            network: None,
            _slots: slots,
        }
    }

    /// Returns the directory in which commands run.
    pub(crate) fn project(&self) -> &Path {
        &self.project
    }

    /// Returns the name of the project's sandbox.
    pub(crate) fn name(&self) -> String {
        let directory = self.project.file_name().unwrap().to_str().unwrap();
        let cleaned = directory.replace(|character: char| !character.is_alphanumeric(), "_");
        format!("sandbox-{cleaned}")
    }

    /// Returns `sandbox ARGUMENTS…` in the project.
    pub(crate) fn command<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Command {
        let mut command = self.environment.command(arguments);
        command.current_dir(&self.project);
        if let Some(network) = &self.network {
            network.attach(&mut command);
        }
        command
    }

    /// Returns another program that runs as the user of this host, in the project.
    pub(crate) fn other_program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.environment.other_program(program);
        command.current_dir(&self.project);
        command
    }

    /// Returns a shell that runs `script` as the user of this host.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut shell = self.other_program("sh");
        shell.args(["-c", script]);
        shell
    }

    /// Starts `sandbox ARGUMENTS…` with empty stdin.
    pub(crate) fn spawn<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Running {
        Running::start(&mut self.command(arguments))
    }

    /// Runs `sandbox ARGUMENTS…` to its end.
    #[track_caller]
    pub(crate) fn run<Argument: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Output {
        self.spawn(arguments).finish()
    }

    /// Runs `sandbox --kvm FLAGS…`, which must succeed.
    #[track_caller]
    pub(crate) fn start(&self, flags: &[&str]) -> Output {
        let arguments = ["--kvm"].iter().chain(flags);
        self.run(arguments).success()
    }

    /// Runs `sandbox exec -- COMMAND…`.
    #[track_caller]
    pub(crate) fn exec(&self, command: &[&str]) -> Output {
        self.run(["exec", "--"].iter().chain(command))
    }

    /// Runs a shell script in the guest, which must succeed. Returns its stdout
    /// without the last newline.
    #[track_caller]
    pub(crate) fn guest(&self, script: &str) -> String {
        let output = self.exec(&["sh", "-euc", script]).success();
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Waits until the guest has started all units that start after readiness. Returns
    /// systemd's state: `running` if no unit failed.
    #[track_caller]
    pub(crate) fn settle(&self) -> String {
        // Before that event, systemd also reports `running`: it has reached the target
        // that it booted to.
        let log = self.state_of_project().join("supervisor.log");
        eventually("the event that the guest has settled", || {
            let log = fs::read_to_string(&log).unwrap();
            log.contains("event=Settled").then_some(())
        });
        eventually_or_report("the guest to settle", || {
            // The command fails until D-Bus runs.
            let answer = self.exec(&["systemctl", "is-system-running"]);
            let state = answer.stdout.trim();
            if ["running", "degraded", "maintenance"].contains(&state) {
                Ok(state.to_owned())
            } else {
                Err(answer)
            }
        })
    }

    /// Returns `sandbox info --json` of the project's sandbox.
    #[track_caller]
    pub(crate) fn info(&self) -> Value {
        let output = self.run(["info", "--json"]).success();
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Returns the pid of the running QEMU.
    #[track_caller]
    pub(crate) fn qemu(&self) -> i32 {
        let pid = self.info()["qemu"]["pid"].as_i64().unwrap();
        i32::try_from(pid).unwrap()
    }

    /// Returns the pid of the running supervisor.
    #[track_caller]
    pub(crate) fn supervisor(&self) -> i32 {
        let pid = self.info()["supervisor"]["pid"].as_i64().unwrap();
        i32::try_from(pid).unwrap()
    }

    /// Returns the state directory of the project's sandbox.
    pub(crate) fn state_of_project(&self) -> PathBuf {
        self.sandbox(&self.name())
    }

    /// Runs `sandbox stop`, which must succeed and leave nothing behind.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.run(["stop"]).success();
        self.assert_nothing_left();
    }

    /// Waits until no process of a sandbox runs.
    #[track_caller]
    pub(crate) fn wait_for_end(&self) {
        eventually("the end of the processes", || {
            self.processes().is_empty().then_some(())
        });
    }

    /// Asserts that no process and no file of any sandbox is left.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let left = self.environment.leftovers();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

impl Deref for Host {
    type Target = TestEnvironment;

    fn deref(&self) -> &TestEnvironment {
        &self.environment
    }
}

impl Drop for Host {
    /// Prints the logs of the machines if the test failed.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let machines = fs::read_dir(self.state().join("kvm-vms")).into_iter();
        for machine in machines.flatten().flatten() {
            for log in ["console.log", "qemu.log", "supervisor.log"] {
                let path = machine.path().join(log);
                let text = fs::read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                if !text.trim().is_empty() {
                    eprintln!("----- {} -----\n{}", path.display(), text.trim_end());
                }
            }
        }
    }
}
