//! The commands that show and enter a running sandbox.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use sandbox_test_support::Output;
use serde_json::Value;

use crate::harness::{Check, Host, Running, Terminal, eventually, run_checks};

const CHECKS: &[Check] = &[
    ("`list` shows the sandbox", list),
    ("`info` shows the sandbox", info),
    ("the ssh line of `info` works as printed", ssh_line),
    ("`ssh NAME` works by the alias", alias),
    ("`sandbox ssh` forwards options and commands", own_ssh),
    ("a key of the user's SSH agent is accepted", agent_key),
    (
        "the console is a terminal of `dev`, and Ctrl-] leaves it",
        console,
    ),
    ("the socat line of `info` works as printed", socat_line),
    ("`logs` shows the console", logs),
    (
        "a second start reports flags that have no effect",
        other_flags,
    ),
];

#[test]
fn running_sandbox_is_shown_and_entered_by_every_command() {
    let host = Host::with_environment(|environment| {
        let socket = environment.root().join("agent");
        environment.variable("SSH_AUTH_SOCK", socket)
    });
    let agent = Agent::start(&host);
    let ssh = host.home().join(".ssh");
    fs::create_dir_all(ssh.join("config.d")).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
    let started = host.start(&[]);
    assert_eq!(
        started.stderr.matches("Include config.d/*.conf").count(),
        1,
        "{started}"
    );
    let again = host.start(&[]);
    assert!(!again.stderr.contains("Include"), "repeated hint: {again}");
    run_checks(&host, CHECKS);

    drop(agent);

    let logs = host.spawn(["logs", "--follow"]);
    logs.expect_stdout("a word for the console");
    host.stop();
    logs.finish().success();
    for command in [
        &["info"][..],
        &["exec", "--", "true"],
        &["console"],
        &["stop"],
    ] {
        let output = host.run(command);
        let expected = if command[0] == "exec" { 125 } else { 1 };
        assert_eq!(output.status, expected, "{command:?}: {output}");
        assert!(
            output
                .stderr
                .contains("no sandbox named `sandbox-project` is running"),
            "{output}"
        );
    }
    assert_eq!(host.run(["list", "--json"]).success().stdout.trim(), "[]");
}

fn list(host: &Host) {
    let output = host.run(["list"]).success();
    let row = output.stdout.lines().nth(1).unwrap();
    for word in [
        "sandbox-project",
        "running",
        "debian-13-minimal",
        "2G",
        "tcg",
    ] {
        assert!(row.contains(word), "{word}: {output}");
    }
    assert!(row.contains(host.project().to_str().unwrap()), "{output}");
    let output = host.run(["list", "--json"]).success();
    let list: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(list[0]["name"], "sandbox-project");
    assert_eq!(list.as_array().unwrap().len(), 1);
    // `list` works in any directory.
    let mut command = host.command(["list"]);
    let elsewhere = Running::start(command.current_dir("/")).finish();
    assert!(elsewhere.success().stdout.contains("sandbox-project"));
}

fn info(host: &Host) {
    let text = host.run(["info"]).success().stdout;
    let info = host.info();
    assert_eq!(info["state"], "running");
    assert_eq!(info["cpus"], 2);
    assert_eq!(info["workspace"], host.project().to_str().unwrap());
    for line in ["ssh_command", "console_command"] {
        let line = info[line].as_str().unwrap();
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        text.contains("2 processors, 2G memory, 20G disk, tcg"),
        "{text}"
    );
    assert!(text.contains("ssh sandbox-project"), "{text}");
    // `info NAME` works in any directory.
    let mut command = host.command(["info", "sandbox-project"]);
    Running::start(command.current_dir("/")).finish().success();
}

/// Runs a printed line and more words in a shell, as a user who pastes the line.
fn pasted(host: &Host, line: &str, more: &str) -> Output {
    Running::start(&mut host.shell(&format!("{line} {more}"))).finish()
}

fn ssh_line(host: &Host) {
    let info = host.info();
    let line = info["ssh_command"].as_str().unwrap();
    let output = pasted(host, line, "'id -un; pwd; echo $SANDBOX_CONTAINER; exit 4'");
    assert_eq!(output.status, 4, "{output}");
    assert_eq!(output.stdout, "dev\n/home/dev\nsandbox-project\n");
    assert_eq!(output.stderr, "");
    // ssh knows the guest's host key without asking the user.
    let known_hosts = fs::read_to_string(host.state_of_project().join("ssh/known_hosts")).unwrap();
    assert!(known_hosts.contains("ssh-ed25519"), "{known_hosts}");
}

fn alias(host: &Host) {
    let file = host.home().join(".ssh/config.d/alias-sandbox-project.conf");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let configuration = host.home().join(".ssh/config");
    fs::write(&configuration, format!("Include {}\n", file.display())).unwrap();
    let line = format!("ssh -F '{}' sandbox-project", configuration.display());
    let output = pasted(host, &line, "hostname").success();
    assert_eq!(output.stdout, "sandbox-project\n");
    assert_eq!(output.stderr, "");
}

fn own_ssh(host: &Host) {
    let output = host.run(["ssh", "echo $SANDBOX_CONTAINER; exit 6"]);
    assert_eq!(
        (output.status, output.stdout.as_str()),
        (6, "sandbox-project\n"),
        "{output}"
    );
    let output = host.run(["ssh", "-T", "-o", "SetEnv=LC_TEST=x", "echo $LC_TEST"]);
    assert_eq!(output.success().stdout, "x\n");
}

/// An SSH agent with one key, at `SSH_AUTH_SOCK`.
struct Agent(Child);

impl Agent {
    fn start(host: &Host) -> Self {
        let mut command = host.shell("exec ssh-agent -D -a \"$SSH_AUTH_SOCK\"");
        let agent = Self(command.stdout(Stdio::null()).spawn().unwrap());
        let socket = host.root().join("agent");
        eventually("the agent's socket", || socket.exists().then_some(()));
        pasted(
            host,
            "ssh-keygen -q -t ed25519 -N '' -f \"$HOME/key\" && ssh-add -q \"$HOME/key\"",
            "&& rm \"$HOME/key\"",
        )
        .success();
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn agent_key(host: &Host) {
    let port = host.info()["ssh_port"].as_u64().unwrap();
    let known_hosts = host.state_of_project().join("ssh/known_hosts");
    let line = format!(
        "ssh -F none -p {port} -o HostKeyAlias=sandbox-project -o UserKnownHostsFile={} dev@127.0.0.1",
        known_hosts.display()
    );
    assert_eq!(pasted(host, &line, "id -un").success().stdout, "dev\n");
}

fn console(host: &Host) {
    let mut console = Terminal::open(&host.command(["console"]));
    console.expect("Ctrl-] leaves");
    console.send("\r");
    console.expect("dev@sandbox-project:~$ ");
    console.send("echo $((6 * 7)) $SANDBOX_CONTAINER\r");
    console.expect("42 sandbox-project");
    // Ctrl-C reaches the guest, not `sandbox console`.
    console.send("sleep 1000\r");
    eventually("sleep to run", || {
        (host.guest("pgrep -cx sleep || true") == "1").then_some(())
    });
    console.send("\x03");
    console.expect("dev@sandbox-project:~$ ");
    console.send("\x1d");
    console.expect("left the console");
    assert_eq!(console.finish(), 0);
}

fn socat_line(host: &Host) {
    let info = host.info();
    let line = info["console_command"].as_str().unwrap();
    let mut socat = Terminal::open(&host.shell(line));
    socat.send("\r");
    socat.expect("dev@sandbox-project:~$ ");
    socat.send("echo $((7 * 7))\r");
    socat.expect("49");
    socat.send("\x1d");
    assert_eq!(socat.finish(), 0);
}

fn logs(host: &Host) {
    let all = host.run(["logs"]).success();
    assert!(all.stdout.contains("42 sandbox-project"), "{all}");
    assert!(!all.stdout.contains('\x1b'), "control sequences: {all}");
    let last = host.run(["logs", "-n", "1"]).success();
    assert_eq!(last.stdout.lines().count(), 1, "{last}");
    let supervisor = host.run(["logs", "--supervisor"]).success();
    assert!(!supervisor.stdout.contains("ERROR"), "{supervisor}");
    let following = host.spawn(["logs", "-f", "-n", "5"]);
    host.guest("echo a word for the console | sudo tee /dev/ttyS0");
    following.expect_stdout("a word for the console");
    following.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(following.finish().status, 130);
}

fn other_flags(host: &Host) {
    let output = host.start(&["--memory", "3G", "--cpus", "2"]);
    assert!(output.stderr.contains("--memory"), "{output}");
    assert!(!output.stderr.contains("--cpus"), "{output}");
}
