//! The allowlist and the access log of a stopped sandbox, and the network flags.

use std::fs;

use sandbox_test_support::TestEnvironment;

use crate::PROGRAM;
use crate::transcript::{Session, with_qemu};

/// Three refusals and two flows, as a gateway writes them.
const LOG: &str = r#"{"time":"2026-01-02T03:04:05.5Z","verdict":"denied","rule":"proxy","reason":"not-listed","asked":"dns","name":"evil.example","port":53,"transport":"udp","up":0,"down":0,"seconds":0.0}
{"time":"2026-01-02T03:04:06Z","verdict":"allowed","rule":"allowlist .debian.org","asked":"sni","name":"deb.debian.org","address":"192.0.2.1","port":443,"transport":"tcp","up":517,"down":20480,"seconds":0.25}
{"time":"2026-01-02T03:04:07Z","verdict":"denied","rule":"proxy","reason":"not-listed","asked":"connect","name":"evil.example","port":443,"transport":"tcp","up":0,"down":0,"seconds":0.0}
{"time":"2026-01-02T03:04:08Z","verdict":"denied","rule":"resolvers","reason":"other-resolver","asked":"address","address":"192.0.2.53","port":53,"transport":"udp","up":0,"down":0,"seconds":0.0,"suppressed":12}
{"time":"2026-01-02T03:04:09Z","verdict":"allowed","rule":"network public","asked":"address","address":"2001:db8::1","port":0,"transport":"icmp","up":64,"down":64,"seconds":0.01}
"#;

fn proxy_directory(environment: &TestEnvironment) -> std::path::PathBuf {
    environment.state().join("sandbox-proxy/box")
}

#[test]
fn allowlist_of_stopped_sandbox_can_be_edited() {
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_NAME", "box");
    let directory = proxy_directory(&environment);
    fs::create_dir_all(&directory).unwrap();
    fs::write(
        directory.join("allowlist.txt"),
        "# mine\nexample.com\n*.example.org # anyone can upload\nnot a domain\n^(www\\.)?old\\.example$\n",
    )
    .unwrap();
    let mut session = Session::new();
    for line in [
        "proxy list",
        "proxy ls --json",
        "proxy allow Bücher.example .example.net example.com a.example.org",
        "proxy allow --cut quiet.example --quiet",
        "proxy remove example.com www.example.net",
        "proxy block nobody.example",
        "proxy rm .example.net",
        "proxy list",
        "proxy info",
        "proxy info --json",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("allowlist_of_stopped_sandbox_can_be_edited");
}

#[test]
fn allowlist_of_new_sandbox_is_the_default() {
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_NAME", "box");
    let before = environment.run(["proxy", "list"]).success().stdout;
    assert!(before.contains("deb.debian.org"), "{before}");
    assert!(before.contains("# anyone can upload"), "{before}");
    let file = proxy_directory(&environment).join("allowlist.txt");
    assert!(!file.exists(), "`proxy list` created the file");
    environment.run(["proxy", "allow", "new.example"]).success();
    let after = environment.run(["proxy", "list"]).success().stdout;
    assert!(after.starts_with(before.lines().next().unwrap()));
    assert!(after.ends_with("new.example\n"), "{after}");
    environment.run(["proxy", "reset"]).success();
    let reset = environment.run(["proxy", "list"]).success().stdout;
    assert_eq!(reset, before);
}

#[test]
fn access_log_of_stopped_sandbox_is_shown() {
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_NAME", "box");
    let mut session = Session::new();
    for line in ["proxy logs", "proxy blocked", "proxy blocked --json"] {
        session.run(&environment, line);
    }
    let directory = proxy_directory(&environment);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("access.jsonl"), LOG).unwrap();
    for line in [
        "proxy logs",
        "proxy logs -n 1",
        "proxy logs -n 0",
        "proxy logs --json -n 2",
        "proxy blocked",
        "proxy blocked --json",
        "proxy info",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("access_log_of_stopped_sandbox_is_shown");
}

#[test]
fn proxy_ask_and_port_without_running_sandbox_fail() {
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_NAME", "box");
    let mut session = Session::new();
    for line in [
        "proxy ask",
        "port ls",
        "port add 8080:80",
        "port rm 8080:80",
    ] {
        session.run(&environment, line);
    }
    session.assert_snapshot("proxy_ask_and_port_without_running_sandbox_fail");
}

#[test]
fn invalid_network_word_is_a_usage_error() {
    let environment = TestEnvironment::new(PROGRAM).variable("SANDBOX_QEMU", "/nowhere/qemu");
    let mut session = Session::new();
    for line in [
        "--network internet",
        "--net-rule allow",
        "--net-rule allow@2001:db8::1:443",
        "--net-rule allow@10.0.0.1/8",
        "--net-rule allow@public:icmp:8",
        "--net-rule allow@*.*.example",
        "--publish 80",
        "--publish localhost:8080:80",
        "-p 8080:0",
        "--dns dns.example",
        "--max-connections 0",
        "--max-connections 100000",
        "--bandwidth fast",
        "--bandwidth 1B",
        "--proxy=maybe",
        "--secret TOKEN",
        "--secret A-B@a.example",
        "--secret-file TOKEN@a.example",
        "proxy",
        "proxy allow",
        "proxy allow https://example.com",
        "proxy allow 192.0.2.1",
        "proxy allow *",
        "proxy remove",
        "port",
        "port add",
        "port add 80",
    ] {
        let output = environment.run(shell_words::split(line).unwrap());
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{line}");
        session.add(&format!("sandbox {line}"), &output);
    }
    session.assert_snapshot("invalid_network_word_is_a_usage_error");
}

#[test]
fn share_with_own_allowlist_is_refused() {
    let environment = with_qemu("10.0.2").variable("SANDBOX_NAME", "box");
    environment.run(["proxy", "reset"]).success();
    let directory = proxy_directory(&environment);
    let elsewhere = environment.root().join("link");
    std::os::unix::fs::symlink(&directory, &elsewhere).unwrap();
    let mut session = Session::new();
    for path in [&directory, &elsewhere] {
        let line = format!("--share {}:/mnt/list --dry-run", path.display());
        session.run(&environment, &line);
    }
    session.assert_snapshot("share_with_own_allowlist_is_refused");
}

#[test]
fn dry_run_with_network_flags_shows_no_secret_values() {
    let environment = with_qemu("10.0.2").variable("API_TOKEN", "s3cr3t-value");
    let file = environment.project().join("key");
    fs::write(&file, "another-s3cr3t\n").unwrap();
    let mut session = Session::new();
    for line in [
        "--network private --net-rule deny@metadata --net-rule allow@host:tcp:5432 --dry-run",
        "--proxy --dns 192.0.2.53 --bandwidth 10M --max-connections 64 -p 8080:80 -p 0:53/udp --dry-run",
        "--secret API_TOKEN@api.example.com,.example.org --secret-file KEY=key@c.example --dry-run",
        "--secret ABSENT@a.example --dry-run",
        "--secret-file KEY=/nowhere@a.example --dry-run",
        "--secret API_TOKEN@a.example --secret API_TOKEN@b.example --dry-run",
        "-p 8080:80 -p 8080:81 --dry-run",
    ] {
        let output = environment.run(shell_words::split(line).unwrap());
        let text = output.to_string();
        assert!(!text.contains("s3cr3t"), "{text}");
        // Another test covers the command line of QEMU.
        let shown: Vec<&str> = text
            .lines()
            .filter(|line| {
                [
                    "network",
                    "rule",
                    "port",
                    "resolver",
                    "bandwidth",
                    "limit",
                    "secret",
                ]
                .iter()
                .any(|word| line.starts_with(word))
                    || line.contains("error:")
                    || line.contains("hint:")
            })
            .collect();
        session.add_text(&format!("sandbox {line}"), &shown.join("\n"));
    }
    session.assert_snapshot("dry_run_with_network_flags_shows_no_secret_values");
}
