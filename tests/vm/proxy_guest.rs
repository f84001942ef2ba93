//! The guest's configuration in proxy mode and with secrets: programs find the proxy and
//! trust the authority, and shells show a note about the restrictions.

use crate::harness::{Check, Host, Terminal, eventually, run_checks};

const CHECKS: &[Check] = &[
    ("commands have the variables of proxy and secret", commands),
    ("sessions of OpenSSH have the variables", ssh),
    (
        "services of the system and of `dev` have the variables",
        services,
    ),
    ("apt uses the proxy for `dev` and root", apt),
    (
        "the authority is trusted, with and without variables",
        trust,
    ),
    (
        "browsers trust the authority and do not encrypt names",
        browsers,
    ),
    (
        "the guest and the logs do not have the secret's value",
        value,
    ),
    ("a shell shows the note once", shell),
    ("a shell of OpenSSH shows the note once", ssh_shell),
    ("the console shows the note at login", console),
    ("a command does not print the note", no_note),
];

const PROXY: &str = "http://10.0.2.100:8888";
const VALUE: &str = "the-real-value";
const CERTIFICATE: &str = "/usr/local/share/ca-certificates/sandbox.crt";
/// The first words of the note.
const NOTE: &str = "This sandbox is in proxy mode";
const PROMPT: &str = "dev@sandbox-project:";

fn host() -> Host {
    Host::with_environment(|environment| environment.variable("TOKEN", VALUE))
}

fn start(host: &Host, mode: &[&str]) {
    let flags = [&["--proxy", "--secret", "TOKEN@api.example.com"], mode].concat();
    host.start(&flags);
    assert_eq!(host.info()["template"].is_null(), !mode.is_empty());
}

#[test]
fn booted_guest_in_proxy_mode_configures_programs_and_shells() {
    let host = host();
    start(&host, &["--cold"]);
    // systemd has the variables from its start.
    assert_configured(&host.guest("sudo systemctl show-environment"));
    run_checks(&host, CHECKS);
    check_trust_store_update(&host);
    host.stop();
}

#[test]
fn restored_guest_in_proxy_mode_configures_programs_and_shells() {
    let host = host();
    start(&host, &[]);
    assert_configured(&host.guest("sudo systemctl show-environment"));
    assert_configured(&host.guest("systemctl --user show-environment"));
    run_checks(&host, CHECKS);
    host.stop();
}

/// Asserts that these lines `NAME=VALUE` have all variables of proxy and secret.
#[track_caller]
fn assert_configured(text: &str) {
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
    assert_configured(&host.guest("env"));
}

fn ssh(host: &Host) {
    let output = host.run(["ssh", "--", "env"]).success();
    assert_configured(&output.stdout);
}

fn services(host: &Host) {
    assert_eq!(host.settle(), "running");
    assert_configured(&host.guest("sudo systemd-run --quiet --wait --pipe env"));
    // The login on the console starts the user's manager asynchronously.
    eventually("the manager of dev", || {
        let state = host.exec(&["systemctl", "--user", "is-active", "default.target"]);
        (state.stdout == "active\n").then_some(())
    });
    assert_configured(&host.guest("systemd-run --user --quiet --wait --pipe env"));
}

fn apt(host: &Host) {
    let expected = format!("Acquire::http::Proxy \"{PROXY}\";\nAcquire::https::Proxy \"{PROXY}\";");
    for root in ["", "sudo "] {
        let shown = host.guest(&format!("{root}apt-config dump | grep '::Proxy'"));
        assert_eq!(shown, expected);
    }
}

/// OpenSSL refuses a self-signed certificate that it does not trust.
fn trust(host: &Host) {
    let trusted = format!("{CERTIFICATE}: OK");
    for variables in ["", "env -u SSL_CERT_FILE ", "sudo "] {
        let verified = host.guest(&format!("{variables}openssl verify {CERTIFICATE}"));
        assert_eq!(verified, trusted, "{variables}");
    }
    // Debian's authorities are still trusted.
    let others = "import ssl; print(len(ssl.create_default_context().get_ca_certs()) > 100)";
    assert_eq!(host.guest(&format!("python3 -c '{others}'")), "True");
}

/// A manual test showed that the browsers obey these files (docs/networking.md).
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

/// `update-ca-certificates`, run by the user, keeps the authority.
fn check_trust_store_update(host: &Host) {
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let before = host.guest(&format!("grep -c BEGIN {bundle}"));
    host.guest("sudo update-ca-certificates 2>&1");
    assert_eq!(host.guest(&format!("grep -c BEGIN {bundle}")), before);
    trust(host);
}

fn value(host: &Host) {
    // Searches the guest's files that a start writes. sudo logs the pattern, which does
    // not match itself.
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

/// Asserts that the shell shows the note once before the first prompt, and leaves it.
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
    // Leaving the shell starts the next login.
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
