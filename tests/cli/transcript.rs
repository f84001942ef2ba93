//! Sessions as text, and what differs between machines and runs taken out.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{Output, PROGRAM, TestEnvironment};

/// What differs between machines and runs, as regular expressions.
const FILTERS: [(&str, &str); 16] = [
    (r"has \d{8} bytes", "has [SIZE] bytes"),
    (r"\brun-[0-9a-f]{8}\b", "run-[RANDOM]"),
    (r"\b[0-9a-f]{12}\b", "[SHORT DIGEST]"),
    (r"/tmp/sandbox-test-\w{6}", "[ROOT]"),
    (r"sandbox-[0-9a-f]{16}\b", "sandbox-[HASH]"),
    (r"\b[0-9a-f]{64}\b", "[DIGEST]"),
    (r"\b\d+(\.\d+)? ns per", "[NUMBER] ns per"),
    (r"this host has \d+M", "this host has [MEMORY]"),
    (r"`--memory \d+M`", "`--memory [MEMORY]`"),
    (r"this host has \d+\n", "this host has [CPUS]\n"),
    (r"at most `--cpus \d+`", "at most `--cpus [CPUS]`"),
    (r"install it: `[^`]+`", "install it: `[COMMAND]`"),
    (r"\d+\.\d+ GiB", "[SIZE] GiB"),
    (
        r#"(allocated|reclaimable)_bytes": [1-9]\d*"#,
        r#"${1}_bytes": "[BYTES]""#,
    ),
    (r"building for \d+ s", "building for [SECONDS] s"),
    (r#""since": "[^"]+""#, r#""since": "[TIME]""#),
];

/// Compares with the stored snapshot of this name.
pub(crate) fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, replacement) in FILTERS {
        settings.add_filter(pattern, replacement);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Several runs, as in a terminal: each command, and what it answered.
pub(crate) struct Session {
    text: String,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            text: String::new(),
        }
    }

    /// Runs `sandbox LINE…`, split as a shell does.
    pub(crate) fn run(&mut self, environment: &TestEnvironment, line: &str) -> &mut Self {
        let output = environment.run(shell_words::split(line).unwrap());
        self.add(&format!("sandbox {line}"), &output)
    }

    /// Adds what was run otherwise.
    pub(crate) fn add(&mut self, line: &str, output: &Output) -> &mut Self {
        self.add_text(line, &output.to_string())
    }

    /// Adds a command and its answer.
    pub(crate) fn add_text(&mut self, line: &str, answer: &str) -> &mut Self {
        let separator = if self.text.is_empty() { "" } else { "\n" };
        self.text
            .push_str(&format!("{separator}$ {line}\n{}\n", answer.trim_end()));
        self
    }

    /// Compares the whole session with the snapshot of this name.
    pub(crate) fn assert_snapshot(&self, name: &str) {
        assert_snapshot(name, &self.text);
    }
}

/// An environment in which starts do not depend on this machine: QEMU is a
/// script that only tells a version, and KVM is not looked at.
pub(crate) fn with_qemu(version: &str) -> TestEnvironment {
    let environment = TestEnvironment::new();
    let directory = environment.root().join("bin");
    fs::create_dir(&directory).unwrap();
    let program = directory.join("qemu-system-x86_64");
    let script = format!("#!/bin/sh\necho 'QEMU emulator version {version}'\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    environment
        .variable("SANDBOX_ACCEL", "tcg")
        .variable("PATH", format!("{}:/usr/bin:/bin", directory.display()))
}

/// `sh -c SCRIPT` in the place of the command; the command is `"$SANDBOX"`.
pub(crate) fn shell(environment: &TestEnvironment, script: &str) -> Command {
    let mut command = through(environment, "/bin/sh", ["-c", script]);
    command.env("SANDBOX", PROGRAM);
    command
}

/// `sandbox LINE…` as somebody whom the permissions of files bind: root does
/// without its power to ignore them.
pub(crate) fn bound_by_permissions(environment: &TestEnvironment, line: &str) -> Command {
    let arguments = shell_words::split(line).unwrap();
    if !nix::unistd::geteuid().is_root() {
        return environment.command(arguments);
    }
    let mut command = through(
        environment,
        "setpriv",
        ["--bounding-set=-dac_override,-dac_read_search", PROGRAM],
    );
    command.args(arguments);
    command
}

/// Another program with everything else as for [`TestEnvironment::command`].
fn through<const COUNT: usize>(
    environment: &TestEnvironment,
    program: &str,
    arguments: [&str; COUNT],
) -> Command {
    use std::os::unix::process::CommandExt;
    let pattern = environment.command(None::<&OsStr>);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(
            pattern
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(environment.project())
        .stdin(std::process::Stdio::null())
        .process_group(0);
    command
}
