//! `--secret`: values that hosts get and the guest does not.

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
/// The authority of the sandbox, in the guest.
const AUTHORITY: &str = "/usr/local/share/ca-certificates/sandbox.crt";
const PROXY: &str = "10.0.2.100:8888";

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

/// A request over TLS that ends at the gateway, with one more header.
fn request(header: &str, marker: &str) -> Value {
    let send = format!(
        "GET /echo/{marker} HTTP/1.1\r\nHost: api.test\r\n{header}\r\nConnection: close\r\n\r\n"
    );
    json!({
        "do": "talk", "to": "api.test:443", "send": send,
        "tls": {"name": "api.test", "authority": AUTHORITY},
    })
}

/// The headers that a server got with the request of this marker.
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
    let told = run(
        &host,
        &[
            request(&bearer, "bearer"),
            request(&format!("Authorization: Basic {basic}"), "basic"),
            tunnelled,
            http2,
        ],
    );
    let wanted = format!("user:{VALUE}");
    let wanted = STANDARD.encode(wanted);
    for (marker, header) in [
        ("bearer", format!("authorization: Bearer {VALUE}\n")),
        ("basic", format!("authorization: Basic {wanted}\n")),
        ("tunnelled", format!("authorization: Bearer {VALUE}\n")),
        ("http2", format!("x-token: {VALUE}\n")),
    ] {
        let got = headers(&world, marker);
        assert!(got.contains(&header), "{marker}: {got}");
    }
    for told in told {
        let answer = told["answer"].as_str().unwrap();
        assert!(answer.contains("200 OK"), "{told}");
        // It came back from the host, and not from the gateway.
        assert!(
            !answer.contains(VALUE) && !answer.contains(&wanted),
            "{told}"
        );
    }
    websocket(&world, &host, &placeholder);
    wrong_hosts(&world, &host, &placeholder);
    assert_nowhere(&host, &[VALUE, &wanted]);
    host.stop();
}

/// The request that opens a WebSocket is one like others; what follows is
/// nobody's but the two ends'.
fn websocket(world: &World, host: &Host, placeholder: &str) {
    let mut operation = request("", "");
    let line = format!("Authorization: Bearer {placeholder}\r\n");
    operation["send"] = open_socket("/socket", "api.test", &line).into();
    let then = format!("the guest has {placeholder}");
    operation["then"] = then.clone().into();
    let told = run_one(host, operation);
    let answer = told["answer"].as_str().unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{told}");
    assert!(answer.ends_with(&format!("\r\n\r\necho: {then}")), "{told}");
    assert_eq!(told["error"], Value::Null, "{told}");
    let got = headers(world, "/socket");
    assert!(
        got.contains(&format!("authorization: Bearer {VALUE}\n")),
        "{got}"
    );
}

fn wrong_hosts(world: &World, host: &Host, placeholder: &str) {
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
    let told = run(host, &[plain("mirror.test"), plain("api.test"), other]);
    for (told, status) in told.iter().zip(["403", "403", "421"]) {
        let answer = told["answer"].as_str().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
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

/// No file of the user's and no command line has any of these texts.
#[track_caller]
fn assert_nowhere(host: &Host, texts: &[&str]) {
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
    let told = run_one(&host, request(&format!("X-Token: {placeholder}"), "open"));
    assert!(
        told["answer"].as_str().unwrap().contains("200 OK"),
        "{told}"
    );
    assert!(headers(&world, "open").contains(&format!("x-token: {VALUE}\n")));
    host.stop();
}
