//! The life of a sandbox from the first `sandbox --kvm` to `sandbox stop`.

use crate::harness::{Host, Terminal};

#[test]
fn first_call_starts_sandbox_and_later_calls_enter_it() {
    // With the accelerator of the real host.
    let host = Host::with_environment(|environment| {
        environment
            .variable("SANDBOX_ACCEL", "auto")
            .variable("SANDBOX_TEMPLATES", "off")
    });
    let start = host.spawn(["--kvm"]);
    start.expect_stderr("waiting for the kernel");
    // A command waits for a sandbox that is not ready.
    let early = host
        .exec(&["cat", "/proc/sys/kernel/random/boot_id"])
        .success();
    let first = start.finish().success();
    assert!(
        first.stderr.contains("`sandbox-project` is ready"),
        "{first}"
    );
    assert_eq!(first.stdout, "");

    let second = host.start(&[]);
    assert!(
        second
            .stderr
            .contains("`sandbox-project` is already running"),
        "{second}"
    );
    // Plain `sandbox` does the same, and opens a shell at a terminal.
    let mut shell = Terminal::open(&host.command([""; 0]));
    shell.expect("dev@sandbox-project:~/workspace$ ");
    shell.send("cat /proc/sys/kernel/random/boot_id\r");
    shell.expect(early.stdout.trim());
    shell.expect("$ ");
    // Ctrl-D ends only the shell.
    shell.send("\x04");
    assert_eq!(shell.finish(), 0);
    assert!(host.run(["list"]).success().stdout.contains("running"));
    host.stop();
}

#[test]
fn first_call_at_terminal_shows_progress_and_opens_shell() {
    let host = Host::with_project("it's_here");
    let mut shell = Terminal::open(&host.command(["--kvm", "--cold"]));
    shell.expect("waiting for the kernel");
    shell.expect("dev@sandbox-it_s_here:~/workspace$ ");
    shell.send("sudo hostname; exit 3\r");
    shell.expect("\rsandbox-it_s_here\r\n");
    assert_eq!(shell.finish(), 3);
    host.stop();
}
