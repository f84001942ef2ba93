//! Commands that need or list running sandboxes when none runs, and commands inside a
//! sandbox.

use sandbox_test_support::TestEnvironment;

use crate::PROGRAM;
use crate::transcript::Session;

#[test]
fn commands_without_running_sandbox_report_none() {
    let environment = TestEnvironment::new(PROGRAM);
    let mut session = Session::new();
    for line in [
        "exec -- true",
        "exec --name box -- true",
        "stop",
        "stop box other",
        "stop --all",
        "stop --all --quiet",
        "info",
        "info box",
        "info --json",
        "logs",
        "logs --follow",
        "logs --supervisor box",
        "console",
        "console box",
        "ssh",
        "ssh -- -v uptime",
        "list",
        "ls",
        "list --json",
        "list --dry-run",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("commands_without_running_sandbox_report_none");
}

#[test]
fn start_inside_sandbox_is_refused() {
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_CONTAINER", "sandbox-outer");
    let mut session = Session::new();
    for line in ["", "--kvm", "run -- true"] {
        session.run(&environment, line);
    }
    session.assert_snapshot("start_inside_sandbox_is_refused");
}
