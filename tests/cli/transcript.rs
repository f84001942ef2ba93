//! Sessions as text, without the values that differ between hosts and runs.

use std::fs;
use std::process::Command;

use sandbox_test_support::{Output, TestEnvironment, write_script};

use crate::PROGRAM;

/// Replacements for values that differ between hosts and runs, as regular expressions.
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

/// Compares a text with the stored snapshot of this name.
pub(crate) fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, replacement) in FILTERS {
        settings.add_filter(pattern, replacement);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Several commands and their output, as in a terminal.
pub(crate) struct Session {
    text: String,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            text: String::new(),
        }
    }

    /// Runs `sandbox LINE…`, split into words as in a shell, and adds it.
    pub(crate) fn run(&mut self, environment: &TestEnvironment, line: &str) -> &mut Self {
        let output = environment.run(shell_words::split(line).unwrap());
        self.add(&format!("sandbox {line}"), &output)
    }

    /// Adds a command that the caller ran.
    pub(crate) fn add(&mut self, line: &str, output: &Output) -> &mut Self {
        self.add_text(line, &output.to_string())
    }

    /// Adds a command and its output as text.
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

/// Creates an environment in which starts do not depend on this host. QEMU is a script that
/// prints this version, and the accelerator is TCG.
pub(crate) fn with_qemu(version: &str) -> TestEnvironment {
    let environment = TestEnvironment::new(PROGRAM);
    let directory = environment.root().join("bin");
    fs::create_dir(&directory).unwrap();
    let program = directory.join("qemu-system-x86_64");
    let script = format!("#!/bin/sh\necho 'QEMU emulator version {version}'\n");
    write_script(&program, &script);
    environment
        .variable("SANDBOX_ACCEL", "tcg")
        .variable("PATH", format!("{}:/usr/bin:/bin", directory.display()))
}

/// Returns `sh -c SCRIPT` in the environment. The script calls `"$SANDBOX"`.
pub(crate) fn shell(environment: &TestEnvironment, script: &str) -> Command {
    let mut command = environment.other_program("/bin/sh");
    command.args(["-c", script]).env("SANDBOX", PROGRAM);
    command
}

/// Returns `sandbox LINE…` for a user who is bound by file permissions. Root runs it without
/// the capabilities that override them.
pub(crate) fn bound_by_permissions(environment: &TestEnvironment, line: &str) -> Command {
    let arguments = shell_words::split(line).unwrap();
    if !nix::unistd::geteuid().is_root() {
        return environment.command(arguments);
    }
    let mut command = environment.other_program("setpriv");
    command
        .args(["--bounding-set=-dac_override,-dac_read_search", PROGRAM])
        .args(arguments);
    command
}
