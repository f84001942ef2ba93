//! Unknown words and invalid values: status 2, and the valid values.

use sandbox_test_support::{Output, TestEnvironment};

use crate::PROGRAM;
use crate::transcript::{Session, with_qemu};

/// Runs lines that must all be usage errors, and compares the session with a snapshot.
fn assert_usage_errors(name: &str, lines: &[&str]) {
    // A line that is wrongly accepted finds no QEMU, and starts nothing.
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_QEMU", "/nowhere/qemu");
    let mut session = Session::new();
    for line in lines {
        let output = environment.run(shell_words::split(line).unwrap());
        assert_eq!(output.status, 2, "{line}\n{output}");
        assert_eq!(output.stdout, "", "{line}");
        session.add(&format!("sandbox {line}"), &output);
    }
    session.assert_snapshot(name);
}

#[test]
fn unknown_word_is_a_usage_error() {
    assert_usage_errors(
        "unknown_word_is_a_usage_error",
        &[
            "--bogus",
            "bogus",
            "lsit",
            "exec --bogus -- true",
            "image bogus",
            "completions tcsh",
            "--color sometimes",
            "--quiet --verbose list",
            "stop --all box",
        ],
    );
}

#[test]
fn missing_word_is_a_usage_error() {
    assert_usage_errors(
        "missing_word_is_a_usage_error",
        &[
            "--memory",
            "exec",
            "exec --",
            "run",
            "run --",
            "image",
            "image build",
            "image inspect",
            "image rm",
            "template",
            "template inspect",
            "template rm",
            "completions",
        ],
    );
}

#[test]
fn invalid_size_or_count_is_a_usage_error() {
    assert_usage_errors(
        "invalid_size_or_count_is_a_usage_error",
        &[
            "--memory 0",
            "--memory 8M",
            "--memory 2X",
            "--memory -1G",
            "--memory 99999999999999999999G",
            "--cpus 0",
            "--cpus -1",
            "--cpus 99999999999",
            "--cpus two",
            "--cpus 1.5",
            "--disk 1M",
            "--disk 9999T",
            "--disk 999P",
            "--disk big",
            "--ready-timeout soon",
            "--ready-timeout 0s",
            "--ready-timeout=-5s",
            "--ready-timeout 90",
            "stop --timeout x",
            "stop --timeout=-1",
            "logs --lines x",
        ],
    );
}

#[test]
fn invalid_name_or_kind_is_a_usage_error() {
    assert_usage_errors(
        "invalid_name_or_kind_is_a_usage_error",
        &[
            "--name ''",
            "--name ...",
            "--name 'a b'",
            "--name ../../etc",
            "--name -x",
            "--name xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "info 'a b'",
            "stop 'a b'",
            "--image ''",
            "--image Debian/13",
            "--image ../x",
            "image build ../x",
            "image rm ok ../x",
            "--accel hvf",
            "--accel KVM",
            "--share-mode magic",
            "--templates never",
            "template inspect xyz",
            "template inspect ''",
            "template rm ABC",
            "template rm --all abc",
            "exec --env '' -- true",
            "exec --env =x -- true",
            "exec --env NOT_SET -- true",
        ],
    );
}

#[test]
fn invalid_share_is_a_usage_error() {
    assert_usage_errors(
        "invalid_share_is_a_usage_error",
        &[
            "--share ''",
            "--share /tmp",
            "--share :/data",
            "--share /tmp:",
            "--share /tmp:data",
            "--share /tmp:/",
            "--share /tmp:/data/../etc",
            "--share /tmp:/etc",
            "--share /tmp:/proc/x",
            "--share /tmp:/home/dev",
            "--share /tmp:/data:rx",
            "--share tmp,x:/data:ro:ro",
        ],
    );
}

#[test]
fn invalid_environment_value_is_a_usage_error() {
    let mut session = Session::new();
    for (name, value) in [
        ("SANDBOX_NAME", "a b"),
        ("SANDBOX_IMAGE", "A"),
        ("SANDBOX_CPUS", "0"),
        ("SANDBOX_MEMORY", "2X"),
        ("SANDBOX_DISK", "1M"),
        ("SANDBOX_ACCEL", "hvf"),
        ("SANDBOX_SHARE_MODE", "magic"),
        ("SANDBOX_TEMPLATES", "never"),
        ("SANDBOX_READY_TIMEOUT", "soon"),
    ] {
        let environment = TestEnvironment::new(PROGRAM).variable(name, value);
        let output = environment.run(["--dry-run"]);
        assert_eq!(output.status, 2, "{output}");
        session.add(&format!("{name}='{value}' sandbox --dry-run"), &output);
    }
    session.assert_snapshot("invalid_environment_value_is_a_usage_error");
}

#[test]
fn size_above_host_resources_is_refused() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    for line in [
        "--dry-run --memory 8T",
        "--dry-run --memory 99T",
        "--dry-run --cpus 255",
        "--dry-run --cpus 999",
    ] {
        let output: Output = environment.run(shell_words::split(line).unwrap());
        // Fails on a host with 255 processors or more, or with 8 TiB of memory.
        assert_eq!(output.status, 125, "{output}");
        session.add(&format!("sandbox {line}"), &output);
    }
    session.assert_snapshot("size_above_host_resources_is_refused");
}
