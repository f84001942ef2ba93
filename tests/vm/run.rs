//! `sandbox run`: a sandbox that lives as long as one command.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Host, Running};

#[test]
fn run_returns_status_of_command_and_leaves_nothing() {
    let host = Host::new();
    fs::write(host.project().join("input"), "from the project\n").unwrap();
    let mut command = host.command([
        "run",
        "--",
        "sh",
        "-c",
        "cat input; cat > output; hostname >&2; exit 9",
    ]);
    let output = Running::with_input(&mut command, b"from stdin\n".to_vec()).finish();
    assert_eq!(output.status, 9, "{output}");
    assert_eq!(output.stdout, "from the project\n");
    assert!(
        output.stderr.contains("\nrun-"),
        "no generated name: {output}"
    );
    assert_eq!(
        fs::read_to_string(host.project().join("output")).unwrap(),
        "from stdin\n"
    );
    host.assert_nothing_left();
}

#[test]
fn run_with_keep_leaves_sandbox_running() {
    let host = Host::new();
    let output = host
        .run([
            "run",
            "--keep",
            "--name",
            "kept",
            "--",
            "touch",
            "/tmp/mark",
        ])
        .success();
    assert!(output.stderr.contains("sandbox stop kept"), "{output}");
    let exec = host
        .run(["exec", "--name", "kept", "--", "ls", "/tmp/mark"])
        .success();
    assert_eq!(exec.stdout, "/tmp/mark\n");
    let again = host.run(["run", "--name", "kept", "--", "true"]);
    assert_eq!(again.status, 125, "{again}");
    assert!(
        again.stderr.contains("`kept` is already running"),
        "{again}"
    );
    host.run(["stop", "kept"]).success();
    host.assert_nothing_left();
}

#[test]
fn killed_run_ends_its_sandbox() {
    let host = Host::new();
    let running = host.spawn(["run", "--", "sh", "-c", "echo started; sleep 1000"]);
    running.expect_stdout("started");
    running.signal(Signal::SIGKILL);
    assert_eq!(running.finish().status, 137);
    host.wait_for_end();
    host.assert_nothing_left();
}

#[test]
fn ctrl_c_during_run_ends_command_and_sandbox() {
    let host = Host::new();
    let running = host.spawn(["run", "--", "sh", "-c", "echo started; exec sleep 1000"]);
    running.expect_stdout("started");
    running.signal(Signal::SIGINT);
    let output = running.finish();
    assert_eq!(output.status, 130, "{output}");
    host.assert_nothing_left();
}
