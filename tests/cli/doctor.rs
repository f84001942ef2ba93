//! `sandbox doctor`. Its findings depend on the host, their format does not.

use std::fs;

use sandbox_test_support::TestEnvironment;

use crate::PROGRAM;
use crate::transcript::{Session, with_qemu};

#[test]
fn doctor_prints_one_line_per_finding_and_a_fix_per_fault() {
    let environment = TestEnvironment::new(PROGRAM);
    let output = environment.run(["doctor"]);
    assert!([0, 1].contains(&output.status), "{output}");
    for line in output.stdout.lines() {
        let known = ["ok       ", "warning  ", "failure  ", "         "];
        assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
        assert!(!line.ends_with('.'), "{line}");
    }
    let json = environment.run(["doctor", "--json"]);
    assert_eq!(json.status, output.status);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&json.stdout).unwrap();
    let mut failed = false;
    for finding in &findings {
        let check = finding["check"].as_str().unwrap();
        let outcome = finding["outcome"].as_str().unwrap();
        assert!(output.stdout.contains(&format!("{check}: ")), "{check}");
        assert!(outcome == "ok" || finding["fix"].is_string(), "{finding}");
        failed |= outcome == "failure";
    }
    assert_eq!(failed, output.status == 1, "{json}");
}

#[test]
fn doctor_without_programs_reports_failures() {
    let environment = TestEnvironment::new(PROGRAM);
    let empty = environment.root().join("empty");
    fs::create_dir(&empty).unwrap();
    let environment = environment.variable("PATH", empty);
    let output = environment.run(["doctor"]);
    assert_eq!(output.status, 1, "{output}");
    assert!(output.stdout.contains("failure  qemu: "), "{output}");
    assert!(output.stdout.contains("ssh: "), "{output}");
}

#[test]
fn doctor_with_old_qemu_reports_failure() {
    let environment = with_qemu("6.2.0");
    let output = environment.run(["doctor"]);
    assert_eq!(output.status, 1, "{output}");
    let mut session = Session::new();
    let about_qemu: Vec<&str> = output.stdout.lines().take(2).collect();
    session.add_text("sandbox doctor | head -n 2", &about_qemu.join("\n"));
    session.assert_snapshot("doctor_with_old_qemu_reports_failure");
}
