//! `--secret`: hosts receive the value, and the guest holds only a placeholder.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::World;
use super::client::{logged, open_socket, run, run_one};
use super::world::MIRROR;
use crate::harness::Host;

const VALUE: &str = "the-real-value-8d1f30";
/// The certificate of the sandbox's authority, in the guest.
const AUTHORITY: &str = "/usr/local/share/ca-certificates/sandbox.crt";
const PROXY: &str = "10.0.2.100:8888";

/// Starts a sandbox with a secret. Returns its host and the placeholder.
fn prepare(world: &World, flags: &[&str]) -> (Host, String) {
    for name in ["api.test", "mirror.test"] {
        world.servers.zone().set(name, &[MIRROR]);
    }
    let host = world.host_with(|environment| {
        environment
            .variable("TOKEN", VALUE)
            .variable("SSL_CERT_FILE", world.authority())
    });
    host.run(["proxy", "allow", "api.test", "mirror.test"])
        .success();
    World::start(&host, &[&["--secret", "TOKEN@api.test"], flags].concat());
    let environment = host.guest("env");
    assert!(!environment.contains(VALUE), "{environment}");
    let placeholder = host.guest("printenv TOKEN");
    assert!(placeholder.starts_with("sandbox-secret-TOKEN-"));
    (host, placeholder)
}

/// Returns a request with one more header. The gateway terminates its TLS.
fn request(header: &str, marker: &str) -> Value {
    let send = format!(
        "GET /echo/{marker} HTTP/1.1\r\nHost: api.test\r\n{header}\r\nConnection: close\r\n\r\n"
    );
    json!({
        "do": "talk", "to": "api.test:443", "send": send,
        "tls": {"name": "api.test", "authority": AUTHORITY},
    })
}

/// Returns the headers of the request with this marker, as the server received them.
#[track_caller]
fn headers(world: &World, marker: &str) -> String {
    let seen = world.servers.seen();
    let found = seen.iter().find(|seen| seen.uri.ends_with(marker));
    found
        .unwrap_or_else(|| panic!("{marker}: {seen:?}"))
        .headers
        .clone()
}

#[test]
fn secret_in_proxy_mode_reaches_only_its_hosts() {
    let Some(world) = World::new() else { return };
    let (host, placeholder) = prepare(&world, &["--proxy"]);
    let basic = STANDARD.encode(format!("user:{placeholder}"));
    let bearer = format!("Authorization: Bearer {placeholder}");
    let mut tunnelled = request(&bearer, "tunnelled");
    tunnelled["to"] = PROXY.into();
    tunnelled["first"] = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n".into();
    let mut http2 = request("", "");
    http2["send"] = Value::Null;
    http2["http2"] = json!({
        "uri": "https://api.test/echo/http2", "headers": [["x-token", placeholder]],
    });
    let results = run(
        &host,
        &[
            request(&bearer, "bearer"),
            request(&format!("Authorization: Basic {basic}"), "basic"),
            tunnelled,
            http2,
        ],
    );
    let encoded = STANDARD.encode(format!("user:{VALUE}"));
    for (marker, header) in [
        ("bearer", format!("authorization: Bearer {VALUE}\n")),
        ("basic", format!("authorization: Basic {encoded}\n")),
        ("tunnelled", format!("authorization: Bearer {VALUE}\n")),
        ("http2", format!("x-token: {VALUE}\n")),
    ] {
        let received = headers(&world, marker);
        assert!(received.contains(&header), "{marker}: {received}");
    }
    for result in results {
        let answer = result["answer"].as_str().unwrap();
        assert!(answer.contains("200 OK"), "{result}");
        // The host echoes the value, and the gateway hides it from the guest.
        assert!(
            !answer.contains(VALUE) && !answer.contains(&encoded),
            "{result}"
        );
    }
    check_websocket(&world, &host, &placeholder);
    check_wrong_hosts(&world, &host, &placeholder);
    assert_not_stored(&host, &[VALUE, &encoded]);
    host.stop();
}

/// The gateway inserts the value into the request that opens a WebSocket, and does not
/// change the bytes that follow.
fn check_websocket(world: &World, host: &Host, placeholder: &str) {
    let mut operation = request("", "");
    let line = format!("Authorization: Bearer {placeholder}\r\n");
    operation["send"] = open_socket("/socket", "api.test", &line).into();
    let then = format!("the guest has {placeholder}");
    operation["then"] = then.clone().into();
    let result = run_one(host, operation);
    let answer = result["answer"].as_str().unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{result}");
    assert!(
        answer.ends_with(&format!("\r\n\r\necho: {then}")),
        "{result}"
    );
    assert_eq!(result["error"], Value::Null, "{result}");
    let received = headers(world, "/socket");
    assert!(
        received.contains(&format!("authorization: Bearer {VALUE}\n")),
        "{received}"
    );
}

/// The gateway refuses requests that would send the placeholder to another host or
/// without TLS.
fn check_wrong_hosts(world: &World, host: &Host, placeholder: &str) {
    let before = world.servers.seen().len();
    let plain = |name: &str| {
        let send = format!(
            "GET / HTTP/1.1\r\nHost: {name}\r\nX-Token: {placeholder}\r\nConnection: close\r\n\r\n"
        );
        json!({"do": "talk", "to": format!("{name}:80"), "send": send})
    };
    let mut other = request(&format!("X-Token: {placeholder}"), "other");
    let send = other["send"].as_str().unwrap();
    other["send"] = send.replace("Host: api.test", "Host: mirror.test").into();
    let results = run(host, &[plain("mirror.test"), plain("api.test"), other]);
    for (result, status) in results.iter().zip(["403", "403", "421"]) {
        let answer = result["answer"].as_str().unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{result}"
        );
    }
    assert_eq!(world.servers.seen().len(), before);
    let logged = logged(host);
    for name in ["mirror.test", "api.test"] {
        let found = logged
            .iter()
            .find(|entry| entry["name"] == name && entry["reason"] == "secret-elsewhere");
        assert!(found.is_some(), "{name}: {logged:#?}");
    }
}

/// Asserts that no file of the user, no command line and no output has these texts.
#[track_caller]
fn assert_not_stored(host: &Host, texts: &[&str]) {
    let mut searched = 0;
    search(host.root(), texts, &mut searched);
    assert!(searched > 10, "{searched} files");
    for process in host.processes() {
        for text in texts {
            assert!(!process.command_line.contains(text), "{process:?}");
        }
    }
    for command in [
        &["info", "--json"][..],
        &["proxy", "logs", "--json"],
        &["logs"],
    ] {
        let output = host.run(command).success();
        for text in texts {
            assert!(!output.stdout.contains(text), "{command:?}: {output}");
        }
    }
}

/// Asserts that no file below `directory` has these texts, and counts the files.
fn search(directory: &Path, texts: &[&str], searched: &mut usize) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&entry.path(), texts, searched);
        } else if kind.is_file() {
            *searched += 1;
            let contents = fs::read(entry.path()).unwrap();
            for text in texts {
                let found = memchr::memmem::find(&contents, text.as_bytes());
                assert_eq!(found, None, "{text} in {}", entry.path().display());
            }
        }
    }
}

#[test]
fn secret_without_proxy_mode_reaches_its_host() {
    let Some(world) = World::new() else { return };
    let (host, placeholder) = prepare(&world, &[]);
    let result = run_one(&host, request(&format!("X-Token: {placeholder}"), "open"));
    assert!(
        result["answer"].as_str().unwrap().contains("200 OK"),
        "{result}"
    );
    assert!(headers(&world, "open").contains(&format!("x-token: {VALUE}\n")));
    host.stop();
}
