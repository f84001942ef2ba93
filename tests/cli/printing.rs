//! Output: the quiet mode, colours, and closed or broken streams.

use std::fs::File;
use std::process::Stdio;

use sandbox_test_support::{Output, TestEnvironment};

use crate::PROGRAM;
use crate::transcript::{shell, with_qemu};

const ESCAPE: char = '\u{1b}';

#[test]
fn quiet_flag_prints_only_data_and_errors() {
    let environment = with_qemu("10.0.2").variable("SANDBOX_ACCEL", "auto");
    let output = environment.run(["--quiet", "--dry-run"]).success();
    assert_eq!(output.stderr, "");
    assert!(output.stdout.starts_with("sandbox    sandbox-project\n"));
    let output = environment.run(["-q", "stop", "--all"]).success();
    assert_eq!((&*output.stdout, &*output.stderr), ("", ""));
    let output = environment.run(["-q", "info"]);
    assert_eq!(output.status, 1);
    assert!(output.stderr.starts_with("error: "), "{output}");
}

#[test]
fn color_flag_and_variables_select_colours() {
    let environment = TestEnvironment::new(PROGRAM);
    let cases = [
        (&["info"][..], false),
        (&["--color", "auto", "info"], false),
        (&["--color", "never", "info"], false),
        (&["--color", "always", "info"], true),
    ];
    for (arguments, coloured) in cases {
        let output = environment.run(arguments);
        assert_eq!(output.stderr.contains(ESCAPE), coloured, "{output:?}");
    }
    // The flag overrides the environment.
    let environment = environment.variable("NO_COLOR", "1");
    let output = environment.run(["--color", "always", "info"]);
    assert!(output.stderr.contains(ESCAPE), "{output:?}");
    let environment = environment.variable("CLICOLOR_FORCE", "1");
    let output = environment.run(["info"]);
    assert!(!output.stderr.contains(ESCAPE), "{output:?}");
}

#[test]
fn usage_error_with_color_never_has_no_colours() {
    let environment = TestEnvironment::new(PROGRAM);
    let output = environment.run(["--color", "never", "--bogus"]);
    assert!(!output.stderr.contains(ESCAPE), "{output:?}");
}

#[test]
fn output_to_closed_pipe_succeeds() {
    let environment = with_qemu("10.0.2");
    for line in [
        "--dry-run",
        "list",
        "list --json",
        "image ls",
        "image ls --json",
        "completions bash",
        "doctor",
        "doctor --json",
        "--help",
    ] {
        // The reader has closed the pipe before the command starts.
        let script = format!(
            "{{ sleep 0.2; \"$SANDBOX\" {line}; echo status $? >&2; }} | head -c 0 >/dev/null"
        );
        let output = Output::of(&mut shell(&environment, &script)).success();
        let answer = output.stderr.lines().last().unwrap().to_owned();
        let allowed: &[&str] = match line {
            // The status still reports the findings on this host.
            "doctor" | "doctor --json" => &["status 0", "status 1"],
            _ => &["status 0"],
        };
        assert!(allowed.contains(&&*answer), "{line}: {output}");
        assert!(!output.stderr.contains("panicked"), "{line}: {output}");
        assert!(!output.stderr.contains("error:"), "{line}: {output}");
    }
}

#[test]
fn output_to_full_disk_is_a_failure() {
    let environment = TestEnvironment::new(PROGRAM);
    for line in ["list", "image ls --json", "completions bash"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Output::of(
            environment
                .command(shell_words::split(line).unwrap())
                .stdout(full)
                .stderr(Stdio::piped()),
        );
        assert_eq!(output.status, 1, "{line}: {output}");
        assert!(output.stderr.starts_with("error: "), "{line}: {output}");
    }
}

#[test]
fn command_with_closed_streams_keeps_its_status() {
    let environment = TestEnvironment::new(PROGRAM);
    for redirection in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let script = format!("\"$SANDBOX\" list {redirection}");
        Output::of(&mut shell(&environment, &script)).success();
        let script = format!("\"$SANDBOX\" info {redirection}");
        let output = Output::of(&mut shell(&environment, &script));
        assert_eq!(output.status, 1, "{redirection}: {output}");
    }
}
