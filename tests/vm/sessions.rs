//! The behaviour of commands and shells in a running sandbox.

use std::process::Stdio;

use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::harness::{Host, Running, Terminal, eventually, run_checks};

#[test]
fn sessions_in_running_sandbox_behave_like_local_ones() {
    let host = Host::new();
    host.start(&[]);
    run_checks(
        &host,
        &[
            ("exec returns the command's status", status),
            ("stdout and stderr arrive separately", streams),
            ("five megabytes return unchanged", binary_round_trip),
            (
                "a command may ignore its stdin, or have an empty one",
                unread_input,
            ),
            ("arguments arrive unchanged", arguments),
            (
                "a command runs in the workspace as `dev` with sudo",
                surroundings,
            ),
            ("`-u` selects the user", users),
            ("`-w` selects the directory", directories),
            ("`-e` sets variables", variables),
            ("Ctrl-C reaches a command without a terminal", interrupt),
            ("closed output ends the command", closed_output),
            ("`-t` opens a terminal that follows resizes", terminal),
            (
                "Ctrl-C at a terminal reaches the command only",
                interrupt_at_terminal,
            ),
            ("a shell is a login shell in the workspace", shell),
            (
                "a shell survives Ctrl-C and ends with its terminal",
                closed_terminal,
            ),
            ("a blocked session does not block another one", two_sessions),
            (
                "a killed agent ends its sessions but not their processes",
                killed_agent,
            ),
        ],
    );
    host.stop();
}

fn status(host: &Host) {
    for (command, expected) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "exit 255"], 255),
        (&["no-such-command"], 127),
        (&["/etc/passwd"], 126),
        (&["/etc"], 126),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -SEGV $$"], 139),
    ] {
        let output = host.exec(command);
        assert_eq!(output.status, expected, "{command:?}: {output}");
    }
    let missing = host.exec(&["no-such-command"]);
    assert!(missing.stderr.contains("no-such-command"), "{missing}");
}

fn streams(host: &Host) {
    let output = host.exec(&["sh", "-c", "echo to stdout; echo to stderr >&2"]);
    assert_eq!(output.stdout, "to stdout\n");
    assert_eq!(output.stderr, "to stderr\n");
}

/// Returns incompressible bytes of every value.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut block = Sha256::digest(b"noise");
    while bytes.len() < length {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    bytes.truncate(length);
    bytes
}

fn binary_round_trip(host: &Host) {
    let sent = noise(5 << 20);
    let mut command = host.command([
        "exec",
        "--",
        "sh",
        "-c",
        "tee /tmp/copy; sha256sum /tmp/copy >&2",
    ]);
    let (status, received, stderr) = Running::with_input(&mut command, sent.clone()).finish_bytes();
    assert_eq!(status, 0, "{stderr}");
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
    let expected: String = Sha256::digest(&sent)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(stderr.starts_with(&expected), "{stderr}");
}

fn unread_input(host: &Host) {
    let mut command = host.command(["exec", "--", "head", "-c", "3"]);
    let (status, received, stderr) =
        Running::with_input(&mut command, noise(1 << 20)).finish_bytes();
    assert_eq!((status, received.len()), (0, 3), "{stderr}");
    let mut command = host.command(["exec", "--", "cat"]);
    let (status, received, stderr) = Running::with_input(&mut command, Vec::new()).finish_bytes();
    assert_eq!((status, received.len()), (0, 0), "{stderr}");
}

fn arguments(host: &Host) {
    let odd = [
        "",
        " ",
        "a  b",
        "'",
        "\"",
        "it's \"quoted\"",
        "$HOME",
        "`id`",
        "$(id)",
        "*",
        "~",
        "a\nb",
        "\n",
        "\\",
        "\\n",
        "!!",
        "#",
        "--",
        "-n",
        "a=b",
        ";",
        "&",
        "|",
        "größe",
        "",
    ];
    let script = r#"for word; do printf '<%s>\0' "$word"; done"#;
    let command: Vec<&str> = ["sh", "-c", script, "sh"].into_iter().chain(odd).collect();
    let output = host.exec(&command).success();
    let expected: String = odd.iter().map(|word| format!("<{word}>\0")).collect();
    assert_eq!(output.stdout, expected);
}

fn surroundings(host: &Host) {
    assert_eq!(host.guest("pwd"), "/home/dev/workspace");
    assert_eq!(host.guest("id -un; id -u; id -g"), "dev\n1000\n1000");
    assert_eq!(host.guest("echo $HOME"), "/home/dev");
    assert_eq!(host.guest("hostname"), "sandbox-project");
    assert_eq!(host.guest("uname -n"), "sandbox-project");
    assert_eq!(host.guest("getent hosts sandbox-project | wc -l"), "1");
    assert_eq!(host.guest("echo $SANDBOX_CONTAINER"), "sandbox-project");
    assert_eq!(host.guest("sudo -n id -u"), "0");
    assert_eq!(host.guest("sudo -n hostname 2>&1"), "sandbox-project");
    assert_eq!(
        host.guest(". /etc/os-release; echo $ID $VERSION_ID"),
        "debian 13"
    );
}

fn users(host: &Host) {
    let id = |user: &str| {
        let output = host.run(["exec", "-u", user, "--", "sh", "-c", "id -un; echo $HOME"]);
        output.success().stdout
    };
    assert_eq!(id("root"), "root\n/root\n");
    assert_eq!(id("dev"), "dev\n/home/dev\n");
    assert_eq!(id("daemon"), "daemon\n/usr/sbin\n");
    assert_eq!(id("1"), "daemon\n/usr/sbin\n");
    let unknown = host.run(["exec", "-u", "nobody-here", "--", "true"]);
    assert_eq!(unknown.status, 125, "{unknown}");
    assert!(unknown.stderr.contains("nobody-here"), "{unknown}");
    // These users also have the variables of the sandbox.
    let name = host.run([
        "exec",
        "-u",
        "daemon",
        "--",
        "printenv",
        "SANDBOX_CONTAINER",
    ]);
    assert_eq!(name.stdout, "sandbox-project\n", "{name}");
}

fn directories(host: &Host) {
    let output = host.run(["exec", "-w", "/usr/lib", "--", "pwd"]).success();
    assert_eq!(output.stdout, "/usr/lib\n");
    let missing = host.run(["exec", "-w", "/no such place", "--", "pwd"]);
    assert_eq!(missing.status, 125, "{missing}");
    assert!(missing.stderr.contains("/no such place"), "{missing}");
}

fn variables(host: &Host) {
    let output = host.run([
        "exec",
        "-e",
        "A=one two",
        "-e",
        "B=$HOME'\"",
        "-e",
        "C=",
        "-e",
        "LANG",
        "--",
        "sh",
        "-c",
        r#"printf '%s|%s|%s|%s' "$A" "$B" "${C-unset}" "$LANG""#,
    ]);
    assert_eq!(output.success().stdout, "one two|$HOME'\"||C.UTF-8");
    let kept = host.run(["exec", "-e", "A=1", "--", "printenv", "SANDBOX_CONTAINER"]);
    assert_eq!(kept.success().stdout, "sandbox-project\n");
}

fn interrupt(host: &Host) {
    // The command handles the signal and returns its own status.
    let script = "trap 'echo caught; exit 42' INT; echo started; while :; do sleep 0.1; done";
    let running = host.spawn(["exec", "--", "sh", "-c", script]);
    running.expect_stdout("started");
    running.signal(Signal::SIGINT);
    let output = running.finish();
    assert_eq!(output.status, 42, "{output}");
    assert_eq!(output.stdout, "started\ncaught\n");

    let running = host.spawn(["exec", "--", "sh", "-c", "echo started; exec sleep 1000"]);
    running.expect_stdout("started");
    running.signal(Signal::SIGINT);
    let output = running.finish();
    assert_eq!(output.status, 130, "{output}");
    assert_eq!(host.guest("pgrep -x sleep || echo none"), "none");

    let running = host.spawn(["exec", "--", "sh", "-c", "echo started; exec sleep 1000"]);
    running.expect_stdout("started");
    running.signal(Signal::SIGTERM);
    let output = running.finish();
    assert_eq!(output.status, 143, "{output}");
    assert_eq!(host.guest("pgrep -x sleep || echo none"), "none");
}

fn closed_output(host: &Host) {
    let mut command = host.command(["exec", "--", "yes"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(reader);
    eventually("the end of `sandbox exec -- yes`", || {
        child.try_wait().unwrap()
    });
    eventually("the end of `yes` in the guest", || {
        (host.guest("pgrep -x yes || echo none") == "none").then_some(())
    });
}

fn terminal(host: &Host) {
    // The program waits for the signal. A handler that prints while the program prints
    // would be an error in Python.
    let script = r#"
import os, signal
def size(word): print(word, *reversed(os.get_terminal_size()), flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
print(os.ttyname(0))
size("first")
while True:
    signal.sigwaitinfo([signal.SIGWINCH])
    size("now")
"#;
    let mut terminal = Terminal::open(&host.command(["exec", "-t", "--", "python3", "-c", script]));
    terminal.expect("/dev/pts/");
    terminal.expect("first 24 80");
    terminal.resize(31, 97);
    terminal.expect("now 31 97");
    terminal.send("\x03");
    assert_eq!(terminal.finish(), 130);

    let without = host.exec(&["tty"]);
    assert_eq!(
        (without.status, without.stdout.as_str()),
        (1, "not a tty\n")
    );
    let mut variable = Terminal::open(&host.command(["exec", "-t", "--", "printenv", "TERM"]));
    variable.expect("xterm");
    assert_eq!(variable.finish(), 0);
}

fn interrupt_at_terminal(host: &Host) {
    // The script polls before it reads: if the signal came just before `read`, the shell
    // would handle it only after `read`.
    let script = "trap 'echo caught; seen=1' INT; echo started; \
                  while [ -z \"$seen\" ]; do sleep 0.1; done; \
                  read line; echo read $line; exit 5";
    let mut terminal = Terminal::open(&host.command(["exec", "-t", "--", "bash", "-c", script]));
    terminal.expect("started");
    terminal.send("\x03");
    terminal.expect("caught");
    terminal.send("a line\r");
    terminal.expect("read a line");
    assert_eq!(terminal.finish(), 5);
}

fn shell(host: &Host) {
    let mut shell = Terminal::open(&host.command(["--kvm"]));
    shell.expect("dev@sandbox-project:~/workspace$");
    shell.send("shopt -q login_shell && echo is a login shell\r");
    shell.expect("\ris a login shell");
    shell.send("echo $SANDBOX_CONTAINER $((6 * 7))\r");
    shell.expect("sandbox-project 42");
    shell.expect("$ ");
    shell.send("exit 7\r");
    assert_eq!(shell.finish(), 7);
    let output = host.run(["list"]).success();
    assert!(output.stdout.contains("sandbox-project"), "{output}");
}

fn closed_terminal(host: &Host) {
    let mut shell = Terminal::open(&host.command(["--kvm"]));
    shell.expect("$ ");
    shell.send("sleep 1000\r");
    eventually("sleep to run", || {
        (host.guest("pgrep -cx sleep || true") == "1").then_some(())
    });
    shell.send("\x03");
    shell.expect("^C");
    shell.expect("$ ");
    assert_eq!(host.guest("pgrep -cx sleep || true"), "0");
    drop(shell);
    eventually("the end of the shell", || {
        (host.guest("ls /dev/pts") == "ptmx").then_some(())
    });
}

fn two_sessions(host: &Host) {
    // Nobody reads the output of the first session while the second one runs.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = host.command(["exec", "--", "head", "-c", "20000000", "/dev/zero"]);
    let mut first = command.stdout(writer).spawn().unwrap();
    drop(command);
    assert_eq!(host.guest("echo undisturbed"), "undisturbed");
    let received = std::io::copy(&mut { reader }, &mut std::io::sink()).unwrap();
    assert_eq!(received, 20_000_000);
    assert!(first.wait().unwrap().success());
}

fn killed_agent(host: &Host) {
    let running = host.spawn(["exec", "--", "sh", "-c", "echo started; exec sleep 1000"]);
    running.expect_stdout("started");
    let killer = host.exec(&["sudo", "sh", "-c", "kill -9 $(pidof guest-agent)"]);
    for output in [killer, running.finish()] {
        assert_eq!(output.status, 125, "{output}");
        assert!(output.stderr.contains("connection to the sandbox was lost"));
    }
    // The next agent serves at once, and the processes of the killed one still run.
    assert_eq!(host.guest("pgrep -cx sleep"), "1");
    host.guest("pkill -x sleep");
}
