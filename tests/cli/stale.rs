//! State directories whose supervisor has ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sandbox_host::process::ProcessIdentity;
use sandbox_test_support::TestEnvironment;
use serde_json::json;

use crate::PROGRAM;
use crate::transcript::{Session, shell};

/// Creates the state that a killed supervisor leaves.
pub(crate) fn leave_state(environment: &TestEnvironment, name: &str, record: &[u8]) {
    let directory = environment.sandbox(name);
    fs::create_dir_all(directory.join("seed")).unwrap();
    fs::write(directory.join("seed/user-data"), "secret").unwrap();
    for file in ["lock", "overlay.qcow2", "console.log", "ssh.port"] {
        fs::write(directory.join(file), "").unwrap();
    }
    fs::write(directory.join("workspace.path"), "/nowhere\n").unwrap();
    fs::write(directory.join("sandbox.json"), record).unwrap();
}

/// Returns a record of a sandbox whose supervisor has ended.
pub(crate) fn record(
    environment: &TestEnvironment,
    name: &str,
    qemu: Option<ProcessIdentity>,
) -> Vec<u8> {
    let record = json!({
        "version": 1,
        "name": name,
        "workspace": "/nowhere",
        "image": "debian-13",
        "image_digest": sandbox_spec::Digest::of(b"image"),
        "cpus": 2,
        "memory": "2G",
        "disk": "20G",
        "accelerator": "tcg",
        "share_mode": "mapped",
        "shares": [],
        "created": "2026-01-02T03:04:05Z",
        "supervisor": {"pid": i32::MAX, "start_time": 1},
        "qemu": qemu,
        "ssh_port": 2222,
        "alias_file": environment.home().join(format!(".ssh/config.d/alias-{name}.conf")),
        "ready": true,
    });
    let record = serde_json::to_vec(&record).unwrap();
    // Without this check, a new record format would silently turn the tests of stale state
    // into tests of damaged records.
    serde_json::from_slice::<sandbox_protocol::Record>(&record).unwrap();
    record
}

/// A live process with `marker` on its command line. It ends when its stdin is closed.
pub(crate) struct Bystander(Child);

impl Bystander {
    pub(crate) fn start(marker: &Path) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", "echo started; read -r line"])
            .arg(marker)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        Self(process)
    }

    pub(crate) fn identity(&self) -> ProcessIdentity {
        ProcessIdentity::of(i32::try_from(self.0.id()).unwrap()).unwrap()
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // The process may already be dead.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn state_of_killed_supervisor_is_collected_by_stop_and_prune() {
    let environment = TestEnvironment::new(PROGRAM);
    let aliases = environment.home().join(".ssh/config.d");
    fs::create_dir_all(&aliases).unwrap();
    fs::write(aliases.join("own.conf"), "Host own\n").unwrap();
    for command in ["stop --all", "stop box", "stop --name box", "prune"] {
        leave_state(&environment, "box", &record(&environment, "box", None));
        fs::write(aliases.join("alias-box.conf"), "Host box\n").unwrap();
        environment
            .run(shell_words::split(command).unwrap())
            .success();
        assert!(!environment.sandbox("box").exists(), "{command}");
        assert!(!aliases.join("alias-box.conf").exists(), "{command}");
        assert!(aliases.join("own.conf").exists(), "{command}");
    }
    fs::remove_file(aliases.join("own.conf")).unwrap();
}

#[test]
fn state_of_killed_supervisor_survives_reading_commands() {
    let environment = TestEnvironment::new(PROGRAM);
    leave_state(&environment, "box", &record(&environment, "box", None));
    let listing = || {
        let directory = environment.sandbox("box");
        let mut paths: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
    };
    let before = listing();
    for command in [
        "list",
        "list --json",
        "info box",
        "logs box",
        "console box",
        "exec --name box -- true",
        "ssh --name box",
        "proxy --name box info",
        "port --name box ls",
        "template ls",
        "image ls",
        "df",
        "prune --dry-run",
        "doctor",
    ] {
        let output = environment.run(shell_words::split(command).unwrap());
        assert!(!output.stdout.contains("2222"), "{command}: {output}");
        assert_eq!(listing(), before, "{command}");
    }
    environment.run(["prune"]).success();
}

#[test]
fn stale_state_with_damaged_record_is_collected() {
    let environment = TestEnvironment::new(PROGRAM);
    let right = record(&environment, "box", None);
    for damaged in [
        &b""[..],
        b"{",
        b"[]",
        b"{\"version\": 99}",
        b"\xff\xfe",
        &right[..right.len() / 2],
    ] {
        leave_state(&environment, "box", damaged);
        environment.run(["prune"]).success();
        assert!(!environment.sandbox("box").exists(), "{damaged:?}");
    }
}

#[test]
fn process_with_reused_qemu_pid_is_not_killed() {
    let environment = TestEnvironment::new(PROGRAM);
    let directory = environment.sandbox("box");
    // A process with the same pid and start time that is not the QEMU of this sandbox.
    let mut other = Bystander::start(Path::new("/somewhere/else"));
    leave_state(
        &environment,
        "box",
        &record(&environment, "box", Some(other.identity())),
    );
    environment.run(["stop", "--all"]).success();
    assert!(!directory.exists());
    assert!(other.is_running());
    // A later process with the same pid, even with the same path in its command line.
    let mut later = Bystander::start(&directory);
    let earlier = ProcessIdentity {
        start_time: later.identity().start_time - 1,
        ..later.identity()
    };
    leave_state(
        &environment,
        "box",
        &record(&environment, "box", Some(earlier)),
    );
    environment.run(["stop", "--all"]).success();
    assert!(!directory.exists());
    assert!(later.is_running());
}

#[test]
fn orphan_qemu_is_killed() {
    let environment = TestEnvironment::new(PROGRAM);
    let mut qemu = Bystander::start(&environment.sandbox("box"));
    leave_state(
        &environment,
        "box",
        &record(&environment, "box", Some(qemu.identity())),
    );
    environment.run(["stop", "--all"]).success();
    assert!(!environment.sandbox("box").exists());
    let status = qemu.0.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
}

#[test]
fn unrelated_files_in_state_directory_are_kept() {
    let environment = TestEnvironment::new(PROGRAM);
    let parent = environment.state().join("kvm-vms");
    fs::create_dir_all(parent.join("not a name")).unwrap();
    fs::write(parent.join("file"), "").unwrap();
    let output = environment.run(["prune"]).success();
    assert_eq!(output.stderr, "");
    assert!(parent.join("not a name").exists() && parent.join("file").exists());
    fs::remove_dir_all(parent).unwrap();
}

#[test]
fn sandbox_locked_by_another_process_is_reported() {
    let environment = TestEnvironment::new(PROGRAM);
    let mut session = Session::new();
    leave_state(&environment, "starting", b"");
    fs::remove_file(environment.sandbox("starting").join("sandbox.json")).unwrap();
    leave_state(&environment, "box", &record(&environment, "box", None));
    let locks = ["starting", "box"].map(|name| {
        let lock = File::open(environment.sandbox(name).join("lock")).unwrap();
        lock.lock().unwrap();
        lock
    });
    for line in ["list", "info box", "info starting", "info --json starting"] {
        session.run(&environment, line);
    }
    fs::write(environment.sandbox("box").join("sandbox.json"), "{").unwrap();
    for line in ["list", "info box", "exec --name box -- true"] {
        let output = environment.run(shell_words::split(line).unwrap());
        session.add(&format!("damaged record; sandbox {line}"), &output);
    }
    session.assert_snapshot("sandbox_locked_by_another_process_is_reported");
    drop(locks);
    environment.run(["stop", "--all"]).success();
}

#[test]
fn stale_short_socket_directory_is_collected() {
    let environment = TestEnvironment::new(PROGRAM);
    let long = environment.home().join("long".repeat(25));
    let environment = environment.variable("SANDBOX_HOME", &long);
    let name: sandbox_spec::SandboxName = "box".parse().unwrap();
    let directories = sandbox_host::directories::Directories {
        data: environment.home().join(".local/share/sandbox"),
        state: long.clone(),
        config: environment.home(),
        home: environment.home(),
        runtime: environment.runtime(),
    };
    let layout = sandbox::StateLayout::new(&directories, &name);
    let sockets = layout.short_socket_directory().unwrap();
    fs::create_dir(sockets).unwrap();
    fs::write(sockets.join("qmp.sock"), "").unwrap();
    fs::create_dir_all(layout.directory()).unwrap();
    fs::write(layout.lock(), "").unwrap();
    environment.run(["stop", "box"]).success();
    assert!(!sockets.exists() && !layout.directory().exists());
}

#[test]
fn concurrent_commands_collect_stale_state_without_errors() {
    let environment = TestEnvironment::new(PROGRAM);
    for name in ["a", "b", "c"] {
        leave_state(&environment, name, &record(&environment, name, None));
    }
    let script = "for n in 1 2 3 4 5 6 7 8; do \"$SANDBOX\" prune & done; wait";
    let output = sandbox_test_support::Output::of(&mut shell(&environment, script)).success();
    assert_eq!(output.stderr, "");
}
