//! Programs that use the library: one outside the workspace, and the examples.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox_test_support::Output;

use crate::harness::{Host, Running, build, eventually};

/// Returns the program outside the workspace, built at the first use.
fn fixture() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = repository().join("tests/fixtures/library-user");
        // The program uses the lock file of the workspace, and so the same versions.
        fs::copy(repository().join("Cargo.lock"), source.join("Cargo.lock")).unwrap();
        build(&source, &["--offline"], &[]).join("library-user")
    })
}

/// Returns an example of the library, built at the first use.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        let words = ["--locked", "--workspace", "--examples"];
        build(&repository(), &words, &[]).join("examples")
    });
    directory.join(name)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns `program ARGUMENTS…` as the user of this host, in the project.
fn command(host: &Host, program: &Path, arguments: &[&str]) -> Command {
    let mut command = host.other_program(program);
    command.args(arguments);
    command
}

#[track_caller]
fn run(host: &Host, program: &Path, arguments: &[&str]) -> Output {
    Running::start(&mut command(host, program, arguments)).finish()
}

/// Returns a host with the data directory of the fixture.
fn host_with_data() -> (Host, String) {
    let host = Host::new();
    let data = host.root().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("shared"), "shared\n").unwrap();
    fs::write(host.project().join("input"), "input\n").unwrap();
    let data = data.to_str().unwrap().to_owned();
    (host, data)
}

#[test]
fn library_program_starts_uses_and_stops_sandboxes() {
    let (host, data) = host_with_data();
    let output = run(&host, fixture(), &[".", &data]).success();
    let expected = [
        &format!("started {}", host.name()),
        "exec Some(7) 1 input shared dev ",
        "sort Some(0) a b ",
        "missing Some(NotFound)",
        "slow Some(Timeout)",
        "signalled Some(15)",
        "hung up Some(0)",
        "console",
        "closed true",
        "stopped true true",
        "absent true",
        "dropped true true true",
    ];
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines, expected, "{output}");
    let written = fs::read_to_string(host.project().join("output")).unwrap();
    assert_eq!(written, "written\n");
    host.assert_nothing_left();
}

#[test]
fn library_program_that_is_killed_leaves_no_qemu() {
    let (host, data) = host_with_data();
    let program = Running::start(&mut command(&host, fixture(), &[".", &data, "hold"]));
    program.expect_stdout("started");
    // The command line sees and enters the sandbox.
    let record = host.info();
    assert_eq!(record["embedded"], true);
    assert_eq!(host.guest("cat input"), "input");
    let (supervisor, qemu) = (host.supervisor(), host.qemu());
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    eventually("the end of QEMU", || {
        (!Path::new(&format!("/proc/{qemu}")).exists()).then_some(())
    });
    drop(program);
    // Its state stays until a command stops the sandbox.
    assert_eq!(host.run(["list"]).success().stdout.lines().count(), 1);
    assert!(host.state_of_project().exists());
    host.stop();
}

#[test]
fn command_line_stops_sandbox_of_library_program() {
    let (host, data) = host_with_data();
    let program = Running::start(&mut command(&host, fixture(), &[".", &data, "hold"]));
    program.expect_stdout("started");
    host.run(["stop"]).success();
    assert!(!host.state_of_project().exists());
    drop(program);
    host.assert_nothing_left();
}

#[test]
fn examples_run() {
    let host = Host::new();
    fs::write(host.project().join("input"), "input\n").unwrap();
    for (name, arguments, expected) in [
        ("start", &[][..], "Linux x86_64\n"),
        ("streams", &[], "ONE\nTWO\nexit status 0\n"),
        ("policy", &[], "reached the internet: false\n"),
        ("console", &[], "the console logs in\n"),
        ("ci_job", &["cat", "input"], "input\n"),
    ] {
        let output = run(&host, &example(name), arguments).success();
        assert_eq!(output.stdout, expected, "{name}: {output}");
        host.assert_nothing_left();
    }
    assert_eq!(
        run(&host, &example("ci_job"), &["no-such-program"]).status,
        127
    );
}
