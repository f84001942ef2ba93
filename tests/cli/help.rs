//! Help, version and completions.

use sandbox_test_support::TestEnvironment;

use crate::PROGRAM;
use crate::transcript::{Session, assert_snapshot};

#[test]
fn version_flags_print_version() {
    let environment = TestEnvironment::new(PROGRAM);
    for flag in ["--version", "-V"] {
        let output = environment.run([flag]).success();
        let expected = format!("sandbox {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(output.stdout, expected);
    }
}

#[test]
fn help_of_every_command_matches_snapshot() {
    let environment = TestEnvironment::new(PROGRAM);
    for flag in ["-h", "--help"] {
        let mut session = Session::new();
        session.run(&environment, flag);
        session.assert_snapshot(&format!("help{}", flag.replace('-', "_")));
    }
    for command in [
        "exec",
        "run",
        "stop",
        "list",
        "info",
        "console",
        "ssh",
        "logs",
        "proxy",
        "proxy allow",
        "proxy remove",
        "proxy list",
        "proxy reset",
        "proxy blocked",
        "proxy logs",
        "proxy info",
        "proxy ask",
        "port",
        "port add",
        "port rm",
        "port ls",
        "image",
        "image build",
        "image ls",
        "image inspect",
        "image rm",
        "template",
        "template build",
        "template ls",
        "template inspect",
        "template rm",
        "df",
        "prune",
        "doctor",
        "completions",
    ] {
        let line = format!("{command} -h");
        let mut session = Session::new();
        session.run(&environment, &line);
        session.assert_snapshot(&format!("help_{}", command.replace(' ', "_")));
    }
}

#[test]
fn completions_for_each_shell_name_commands() {
    let environment = TestEnvironment::new(PROGRAM);
    for shell in ["bash", "zsh", "fish"] {
        let output = environment.run(["completions", shell]).success();
        assert_eq!(output.stderr, "");
        for word in ["exec", "console", "doctor", "share-mode", "prune"] {
            assert!(output.stdout.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn bash_completions_parse_in_bash() {
    let environment = TestEnvironment::new(PROGRAM);
    let script = environment.run(["completions", "bash"]).success().stdout;
    let path = environment.project().join("completions");
    std::fs::write(&path, script).unwrap();
    let status = std::process::Command::new("bash")
        .args(["-n", path.to_str().unwrap()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn supervise_without_plan_is_refused() {
    let environment = TestEnvironment::new(PROGRAM);
    let output = environment.run(["supervise", "box"]);
    assert_snapshot("supervise_without_plan_is_refused", &output.to_string());
}
