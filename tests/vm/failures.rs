//! Failures: each gives a clear error and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Host, Running, Terminal, eventually};

#[test]
fn concurrent_starts_in_one_directory_make_one_sandbox() {
    let host = Host::new();
    let first = host.spawn(["--kvm"]);
    let second = host.spawn(["--kvm"]);
    let outputs = [first.finish().success(), second.finish().success()];
    let started = outputs
        .iter()
        .filter(|output| output.stderr.contains("`sandbox-project` is ready"))
        .count();
    assert_eq!(started, 1, "{}{}", outputs[0], outputs[1]);
    let list = host.run(["list", "--json"]).success();
    assert_eq!(list.stdout.matches("\"name\"").count(), 1, "{list}");
    host.stop();
}

#[test]
fn starts_in_directories_with_equal_names_make_separate_sandboxes() {
    let host = Host::with_machines(2);
    let directories = ["one/project", "two/project"].map(|path| host.root().join(path));
    for directory in &directories {
        fs::create_dir_all(directory).unwrap();
    }
    let run_in = |directory: &Path, arguments: &[&str]| {
        Running::start(host.command(arguments).current_dir(directory))
    };
    // Both start at the same moment, so neither finds the name taken.
    let starts = directories
        .each_ref()
        .map(|directory| run_in(directory, &["--kvm"]));
    for start in starts {
        start.finish().success();
    }
    let names = directories.each_ref().map(|directory| {
        let output = run_in(
            directory,
            &["exec", "--", "sh", "-c", "hostname; touch mine"],
        );
        output.finish().success().stdout.trim().to_owned()
    });
    assert!(names.contains(&"sandbox-project".to_owned()), "{names:?}");
    let hashed = names
        .iter()
        .find(|name| *name != "sandbox-project")
        .unwrap();
    assert!(hashed.starts_with("sandbox-project-"), "{names:?}");
    assert_eq!(hashed.len(), "sandbox-project-01234567".len());
    for directory in &directories {
        assert!(directory.join("mine").exists());
    }
    // A directory keeps its sandbox after the other sandbox has stopped.
    run_in(&directories[0], &["stop"]).finish().success();
    let other = run_in(&directories[1], &["exec", "--", "hostname"])
        .finish()
        .success();
    assert_eq!(other.stdout.trim(), names[1]);
    host.run(["stop", "--all"]).success();
    host.assert_nothing_left();
}

/// Kills the supervisor, and waits for the end of supervisor and QEMU.
fn kill_supervisor(host: &Host) {
    let supervisor = host.supervisor();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    host.wait_for_end();
    // A dying supervisor has no command line but still holds its lock. The lock is free
    // once the process has ended or is a zombie (proc_pid_stat(5)).
    eventually("the end of the supervisor", || {
        let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        matches!(state, None | Some('Z' | 'X')).then_some(())
    });
}

#[test]
fn killed_supervisor_ends_qemu_and_next_start_cleans_up() {
    let host = Host::new();
    host.start(&[]);
    let first_boot = host.guest("cat /proc/sys/kernel/random/boot_id");
    let alias = host.home().join(".ssh/config.d");
    assert!(!alias.exists(), "an alias was written without a request");
    kill_supervisor(&host);
    assert!(host.state_of_project().join("sandbox.json").exists());

    let output = host.start(&[]);
    assert!(output.stderr.contains("is ready"), "{output}");
    assert_ne!(
        host.guest("cat /proc/sys/kernel/random/boot_id"),
        first_boot
    );

    // A stale record may name the pid of an unrelated process.
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let record = host.state_of_project().join("sandbox.json");
    let text = fs::read_to_string(&record).unwrap();
    let qemu = host.qemu();
    kill_supervisor(&host);
    let reused = text.replace(
        &format!("\"pid\": {qemu}"),
        &format!("\"pid\": {}", bystander.id()),
    );
    assert_ne!(reused, text);
    fs::write(&record, reused).unwrap();
    // Only commands that change something remove stale state. `list` only reads.
    let list = host.run(["list", "--json"]).success();
    assert_eq!(list.stdout.trim(), "[]");
    assert!(record.exists());
    host.run(["prune"]).success();
    host.assert_nothing_left();
    assert!(
        bystander.try_wait().unwrap().is_none(),
        "the unrelated process was killed"
    );
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn killed_qemu_ends_running_command_with_error() {
    let host = Host::new();
    host.start(&[]);
    let running = host.spawn(["exec", "--", "sh", "-c", "echo started; sleep 1000"]);
    running.expect_stdout("started");
    kill(Pid::from_raw(host.qemu()), Signal::SIGKILL).unwrap();
    let output = running.finish();
    output.assert_failure(125, &["QEMU ended unexpectedly", "hint:"]);
    host.assert_nothing_left();
}

#[test]
fn qemu_exit_at_start_is_quoted_in_error() {
    let host = Host::with_environment(|environment| {
        environment
            .qemu_after("case \"$*\" in *-kernel*) echo 'no luck today' >&2; exit 1;; esac")
            .variable("SANDBOX_TEMPLATES", "off")
    });
    let output = host.run(["--kvm"]);
    output.assert_failure(125, &["QEMU ended unexpectedly", "| no luck today"]);
    host.assert_nothing_left();
}

/// Lines for [`qemu_after`](sandbox_test_support::TestEnvironment::qemu_after) that crash QEMU
/// at its first boot of a guest. One second later, when the guest's kernel runs, it ends
/// as if by a failed assertion.
pub(crate) const CRASHES_ONCE: &str = r#"
case "$*" in *-kernel*)
    if mkdir "$root/crashed" 2> /dev/null; then
        echo 'assertion failed: luck' >&2
        (sleep 1; kill -ABRT $$) &
    fi;;
esac"#;

#[test]
fn qemu_crash_during_boot_is_retried_once() {
    let host = Host::with_environment(|environment| {
        environment
            .qemu_after(CRASHES_ONCE)
            .variable("SANDBOX_TEMPLATES", "off")
    });
    let output = host.start(&[]);
    for part in ["QEMU ended unexpectedly: signal: 6", "starting it again"] {
        assert!(output.stderr.contains(part), "{output}");
    }
    let log = fs::read_to_string(host.state_of_project().join("supervisor.log")).unwrap();
    assert!(log.contains("assertion failed: luck"), "{log}");
    assert_eq!(host.guest("echo well"), "well");
    host.stop();

    // A crash after readiness ends the sandbox.
    host.start(&[]);
    kill(Pid::from_raw(host.qemu()), Signal::SIGABRT).unwrap();
    host.wait_for_end();
    host.assert_nothing_left();
}

#[test]
fn second_qemu_crash_during_boot_is_an_error() {
    let host = Host::with_own_templates(1, |environment| {
        environment
            .qemu_after(
                "case \"$*\" in *-kernel*) echo boot >> \"$root/boots\"; echo 'assertion failed' >&2; kill -SEGV $$;; esac",
            )
            .variable("SANDBOX_TEMPLATES", "off")
    });
    for (command, status) in [(["--kvm", "--quiet"], 125), (["template", "build"], 1)] {
        let output = host.run(command);
        output.assert_failure(status, &["SIGSEGV", "| assertion failed"]);
        host.assert_nothing_left();
    }
    let boots = fs::read_to_string(host.root().join("boots")).unwrap();
    assert_eq!(boots.lines().count(), 4, "two boots per command");
}

#[test]
fn guest_poweroff_removes_sandbox() {
    let host = Host::new();
    host.start(&[]);
    let running = host.spawn([
        "exec",
        "--",
        "sh",
        "-c",
        "sudo systemctl poweroff; sleep 1000",
    ]);
    let output = running.finish();
    output.assert_failure(125, &["powered itself off"]);
    host.wait_for_end();
    host.assert_nothing_left();
}

#[test]
fn guest_after_ready_timeout_is_reported_and_removed() {
    let host = Host::cold();
    let output = host.run(["--kvm", "--ready-timeout", "1s"]);
    output.assert_failure(125, &["not ready within 1 s", "--ready-timeout"]);
    host.assert_nothing_left();
    let output = host.run(["run", "--ready-timeout", "5s", "--", "true"]);
    output.assert_failure(125, &["last lines of its log"]);
    host.assert_nothing_left();
}

#[test]
fn start_with_damaged_image_is_refused() {
    let host = Host::cold();
    let shared = fs::read_link(host.images()).unwrap();
    fs::remove_file(host.images()).unwrap();
    let status = Command::new("cp")
        .args(["--recursive", "--reflink=auto", "--"])
        .arg(&shared)
        .arg(host.images())
        .status()
        .unwrap();
    assert!(status.success());
    let image = host
        .run(["image", "inspect", "debian-13-minimal"])
        .success();
    let image: serde_json::Value = serde_json::from_str(&image.stdout).unwrap();
    let blob = |file: &serde_json::Value| {
        let digest = file["digest"].as_str().unwrap();
        let hex = digest.strip_prefix("sha256:").unwrap();
        host.images().join("blobs/sha256").join(hex)
    };
    let disk = blob(&image["content"]["files"]["disk"]["file"]);
    let kernel = blob(&image["content"]["files"]["kernel"]["file"]);
    let refused = |reason: &str| {
        let output = host.run(["--kvm"]);
        assert_eq!(output.status, 125, "{output}");
        assert!(
            output
                .stderr
                .contains("image `debian-13-minimal` is damaged"),
            "{output}"
        );
        assert!(output.stderr.contains(reason), "{output}");
        assert!(
            output
                .stderr
                .contains("sandbox image build debian-13-minimal"),
            "{output}"
        );
        host.assert_nothing_left();
    };

    let mut bytes = fs::read(&kernel).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&kernel, &bytes).unwrap();
    refused("has changed since it was stored");
    bytes[middle] ^= 1;
    fs::write(&kernel, &bytes).unwrap();

    let length = fs::metadata(&disk).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(length / 2)
        .unwrap();
    refused("bytes instead of");
    fs::remove_file(&disk).unwrap();
    refused("is missing");
}

#[test]
fn start_with_very_long_home_succeeds() {
    let host = Host::with_environment(|environment| {
        let home = environment.home().join("x".repeat(150));
        fs::create_dir(&home).unwrap();
        environment.variable("HOME", home)
    });
    let state = host.home().join("x".repeat(150)).join(".cache/sandbox");
    fs::create_dir_all(&state).unwrap();
    fs::rename(host.images(), state.join("kvm-cache")).unwrap();
    host.start(&[]);
    assert_eq!(host.guest("hostname"), "sandbox-project");
    let info = host.info();
    let line = info["console_command"].as_str().unwrap();
    let mut socat = Terminal::open(&host.shell(line));
    socat.send("\r");
    socat.expect("dev@sandbox-project");
    socat.send("\x1d");
    assert_eq!(socat.finish(), 0);
    // The documented path is a link to the socket.
    let documented = state.join("kvm-vms/sandbox-project/console.sock");
    assert!(fs::symlink_metadata(&documented).unwrap().is_symlink());
    host.stop();
    assert_eq!(fs::read_dir(state.join("kvm-vms")).unwrap().count(), 0);
}

#[test]
fn commands_with_closed_standard_streams_succeed() {
    let host = Host::new();
    let with_closed = |streams: &str, arguments: &[&str]| {
        let command = host.command(arguments);
        let mut shell = host.shell(&format!("exec \"$0\" \"$@\" {streams}"));
        shell.arg(command.get_program()).args(command.get_args());
        Running::start(&mut shell).finish()
    };
    with_closed("<&- >&- 2>&-", &["--kvm"]).success();
    let output = with_closed("<&-", &["exec", "--", "sh", "-c", "cat; echo done"]).success();
    assert_eq!(output.stdout, "done\n");
    let output = with_closed(">&-", &["exec", "--", "sh", "-c", "echo lost; exit 3"]);
    assert_eq!((output.status, output.stdout.as_str()), (3, ""), "{output}");
    assert!(
        with_closed("<&- 2>&-", &["list"])
            .success()
            .stdout
            .contains("sandbox-project")
    );
    with_closed("<&- >&- 2>&-", &["stop"]).success();
    host.assert_nothing_left();
}
