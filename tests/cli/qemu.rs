//! A QEMU that is missing, too old, or another program.

use std::fs;

use sandbox_test_support::{TestEnvironment, write_script};

use crate::PROGRAM;
use crate::transcript::{Session, with_qemu};

#[test]
fn missing_qemu_is_reported() {
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_ACCEL", "tcg");
    let empty = environment.root().join("empty");
    fs::create_dir(&empty).unwrap();
    let environment = environment.variable("PATH", empty);
    let mut session = Session::new();
    session.run(&environment, "--dry-run");
    session.assert_snapshot("missing_qemu_is_reported");
}

#[test]
fn old_qemu_is_refused() {
    let mut session = Session::new();
    session.run(&with_qemu("6.2.0"), "--dry-run");
    session.assert_snapshot("old_qemu_is_refused");
}

#[test]
fn other_program_as_qemu_is_refused() {
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_ACCEL", "tcg");
    let program = environment.root().join("qemu");
    let mut session = Session::new();
    for script in [
        "#!/bin/sh\necho 'hello there'\n",
        "#!/bin/sh\nexit 1\n",
        "#!/nonexistent/interpreter\n",
    ] {
        write_script(&program, script);
        let output = environment
            .command(["--dry-run"])
            .env("SANDBOX_QEMU", &program)
            .output()
            .unwrap();
        session.add(&format!("{script:?}"), &output.into());
    }
    let output = environment
        .command(["--dry-run"])
        .env("SANDBOX_QEMU", "/nowhere/qemu")
        .output()
        .unwrap();
    session.add(
        "SANDBOX_QEMU=/nowhere/qemu sandbox --dry-run",
        &output.into(),
    );
    session.assert_snapshot("other_program_as_qemu_is_refused");
}
