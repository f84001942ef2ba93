//! What the guest is told of its network in proxy mode and with secrets: its
//! programs find the proxy, trust the authority, and people read what is closed.

use crate::harness::{Check, Host, Terminal, eventually, run_checks};

const CHECKS: &[Check] = &[
    ("commands know the proxy and the placeholder", commands),
    ("so do sessions of OpenSSH", ssh),
    ("so do services, and those of dev", services),
    ("apt knows the proxy, for root too", apt),
    (
        "the authority is trusted, with and without variables",
        trust,
    ),
    ("browsers hide no names and trust it, too", browsers),
    ("the value of the secret is nowhere", value),
    ("a shell shows the note once", shell),
    ("a shell of OpenSSH shows it once", ssh_shell),
    ("the console shows it at its login", console),
    ("a command is not disturbed by it", no_note),
];

const PROXY: &str = "http://10.0.2.100:8888";
const VALUE: &str = "the-real-value";
const CERTIFICATE: &str = "/usr/local/share/ca-certificates/sandbox.crt";
/// Words of the note.
const NOTE: &str = "This sandbox is in proxy mode";
const PROMPT: &str = "dev@sandbox-project:";

fn host() -> Host {
    Host::with_environment(|environment| environment.variable("TOKEN", VALUE))
}

fn start(host: &Host, way: &[&str]) {
    let flags = [&["--proxy", "--secret", "TOKEN@api.example.com"], way].concat();
    host.start(&flags);
    assert_eq!(host.info()["template"].is_null(), !way.is_empty());
}

#[test]
fn booted_guest_in_proxy_mode_configures_programs_and_shells() {
    let host = host();
    start(&host, &["--cold"]);
    // From the first moment: systemd itself has begun with them.
    assert_told(&host.guest("sudo systemctl show-environment"));
    run_checks(&host, CHECKS);
    update_of_the_trust_store(&host);
    host.stop();
}

#[test]
fn restored_guest_in_proxy_mode_configures_programs_and_shells() {
    let host = host();
    start(&host, &[]);
    assert_told(&host.guest("sudo systemctl show-environment"));
    assert_told(&host.guest("systemctl --user show-environment"));
    run_checks(&host, CHECKS);
    host.stop();
}

/// These variables, in lines `NAME=VALUE`, are complete.
#[track_caller]
fn assert_told(text: &str) {
    let value = |name: &str| {
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    };
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        assert_eq!(value(name), PROXY);
    }
    for name in ["no_proxy", "NO_PROXY"] {
        let exceptions: Vec<&str> = value(name).split(',').collect();
        for host in ["localhost", "host.sandbox.internal", "sandbox-project"] {
            assert!(exceptions.contains(&host), "{exceptions:?}");
        }
    }
    assert!(
        value("TOKEN").starts_with("sandbox-secret-TOKEN-"),
        "{text}"
    );
    assert_eq!(value("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt");
    assert_eq!(value("REQUESTS_CA_BUNDLE"), value("SSL_CERT_FILE"));
    assert_eq!(value("NODE_EXTRA_CA_CERTS"), CERTIFICATE);
}

fn commands(host: &Host) {
    assert_told(&host.guest("env"));
}

fn ssh(host: &Host) {
    let output = host.run(["ssh", "--", "env"]).success();
    assert_told(&output.stdout);
}

fn services(host: &Host) {
    assert_eq!(host.settle(), "running");
    assert_told(&host.guest("sudo systemd-run --quiet --wait --pipe env"));
    // It starts with the console's login, in its own time.
    eventually("the manager of dev", || {
        let state = host.exec(&["systemctl", "--user", "is-active", "default.target"]);
        (state.stdout == "active\n").then_some(())
    });
    assert_told(&host.guest("systemd-run --user --quiet --wait --pipe env"));
}

fn apt(host: &Host) {
    let expected = format!("Acquire::http::Proxy \"{PROXY}\";\nAcquire::https::Proxy \"{PROXY}\";");
    for root in ["", "sudo "] {
        let shown = host.guest(&format!("{root}apt-config dump | grep '::Proxy'"));
        assert_eq!(shown, expected);
    }
}

/// A certificate that signs itself is refused by OpenSSL unless it is trusted.
fn trust(host: &Host) {
    let trusted = format!("{CERTIFICATE}: OK");
    for variables in ["", "env -u SSL_CERT_FILE ", "sudo "] {
        let verified = host.guest(&format!("{variables}openssl verify {CERTIFICATE}"));
        assert_eq!(verified, trusted, "{variables}");
    }
    // Debian's own are trusted as before.
    let others = "import ssl; print(len(ssl.create_default_context().get_ca_certs()) > 100)";
    assert_eq!(host.guest(&format!("python3 -c '{others}'")), "True");
}

/// That the browsers heed these files was tried by hand, see docs/networking.md.
fn browsers(host: &Host) {
    let authority = host.guest(&format!("grep -v CERTIFICATE {CERTIFICATE} | tr -d '\\n'"));
    let expected = serde_json::json!({
        "EncryptedClientHelloEnabled": false,
        "CACertificates": [authority],
    });
    for directory in ["chromium", "opt/chrome", "opt/chrome_for_testing"] {
        let policy = host.guest(&format!("cat /etc/{directory}/policies/managed/*.json"));
        let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
        assert_eq!(policy, expected, "{directory}");
    }
    let preferences = host.guest("cat /etc/firefox-esr/sandbox.js");
    assert!(
        preferences.contains("grease_probability\", 0"),
        "{preferences}"
    );
    let policy = host.guest("cat /etc/firefox/policies/policies.json");
    assert!(policy.contains(CERTIFICATE), "{policy}");
}

/// The user's own update of the system's certificates keeps the authority.
fn update_of_the_trust_store(host: &Host) {
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let before = host.guest(&format!("grep -c BEGIN {bundle}"));
    host.guest("sudo update-ca-certificates 2>&1");
    assert_eq!(host.guest(&format!("grep -c BEGIN {bundle}")), before);
    trust(host);
}

fn value(host: &Host) {
    // Of the guest's files those that a start writes. The pattern does not
    // match itself, where sudo logs it.
    let pattern = VALUE.replace('-', "[-]");
    host.guest(&format!(
        "! sudo grep -rqs '{pattern}' /etc /run /proc/1/environ /proc/cmdline /sys/firmware/dmi/tables"
    ));
    for log in ["console.log", "supervisor.log", "qemu.log"] {
        let path = host.state_of_project().join(log);
        let text = std::fs::read(&path).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains(VALUE), "{log}");
    }
}

/// Leaves the shell; the note was there once, before the first prompt.
#[track_caller]
fn assert_noted_once(mut shell: Terminal) {
    shell.expect(NOTE);
    shell.expect("sandbox proxy allow DOMAIN");
    shell.expect(PROMPT);
    let shown = shell.text();
    assert_eq!(shown.matches(NOTE).count(), 1, "{shown}");
    shell.send("exit\r");
    assert_eq!(shell.finish(), 0);
}

fn shell(host: &Host) {
    assert_noted_once(Terminal::open(&host.command(["--kvm"])));
}

fn ssh_shell(host: &Host) {
    assert_noted_once(Terminal::open(&host.command(["ssh"])));
}

fn console(host: &Host) {
    host.settle();
    let mut console = Terminal::open(&host.command(["console"]));
    console.expect("Ctrl-] leaves");
    console.send("\r");
    console.expect(PROMPT);
    // The next login.
    console.send("exit\r");
    console.expect(NOTE);
    console.expect(PROMPT);
    console.send("\x1d");
    assert_eq!(console.finish(), 0);
}

fn no_note(host: &Host) {
    for command in [&["exec", "--"][..], &["ssh", "--"]] {
        let output = host.run(command.iter().chain(&["echo", "alone"])).success();
        assert_eq!((&*output.stdout, &*output.stderr), ("alone\n", ""));
    }
}
