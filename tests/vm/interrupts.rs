//! Ctrl-C and other signals at every stage of a start: the status reports them, and
//! nothing is left.

use nix::sys::signal::Signal;

use crate::harness::{Host, Terminal};

/// The progress messages at the beginning of each stage.
const STAGES: [&str; 4] = [
    "preparing the disk",
    "waiting for the kernel",
    "waiting for the root file system",
    "waiting for systemd",
];

#[test]
fn interrupted_start_leaves_nothing() {
    let host = Host::cold();
    for stage in STAGES {
        for (signal, command) in [
            (Signal::SIGINT, &["--kvm"][..]),
            (Signal::SIGTERM, &["run", "--", "true"]),
        ] {
            eprintln!("    {signal} at `{stage}`");
            let running = host.spawn(command);
            running.expect_stderr(stage);
            running.signal(signal);
            let output = running.finish();
            assert_eq!(output.status, 130, "{signal} at `{stage}`: {output}");
            assert!(!output.stderr.contains("error:"), "{output}");
            host.assert_nothing_left();
        }
    }
}

#[test]
fn start_after_kill_or_hangup_leaves_nothing() {
    let host = Host::cold();
    let running = host.spawn(["run", "--", "true"]);
    running.expect_stderr(STAGES[1]);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.finish().status, 137);
    host.assert_nothing_left();

    let running = host.spawn(["--kvm"]);
    running.expect_stderr(STAGES[2]);
    running.signal(Signal::SIGHUP);
    assert_eq!(running.finish().status, 130);
    host.assert_nothing_left();
}

#[test]
fn ctrl_c_at_terminal_cancels_start() {
    let host = Host::cold();
    let mut terminal = Terminal::open(&host.command(["--kvm"]));
    terminal.expect("waiting for the root file system");
    terminal.send("\x03");
    assert_eq!(terminal.finish(), 130);
    host.assert_nothing_left();
}
