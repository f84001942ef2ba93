//! The program in the guest that tests the network: `tests/fixtures/network-client`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sandbox_test_support::write_script;
use serde_json::{Value, json};

use crate::harness::{Host, Running, build, target_directory};

/// The name of the program in the project directory.
pub(super) const NAME: &str = "network-client";

/// Runs the compiler with `"$@"`, and links the program statically. The client compares large
/// downloads in an emulated guest, so it is optimized.
const COMPILER: &str = r#"#!/bin/sh
case " $* " in
*' --crate-name network_client '*)
    set -- "$@" -C target-feature=+crt-static -C strip=symbols -C opt-level=2 ;;
esac
exec "$@"
"#;

/// Returns the program, built at the first use.
///
/// `cargo rustc` would pass those options, too, but it selects one package. Its dependencies would
/// have other features than in the tests, and all of them would be compiled again.
pub(super) fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let compiler = target_directory().join("tmp/compile-network-client");
        write_script(&compiler, COMPILER);
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let words = ["--locked", "--workspace", "--bin", NAME];
        build(source, &words, &[("RUSTC_WORKSPACE_WRAPPER", &compiler)]).join(NAME)
    })
}

/// Starts the client with these operations.
pub(super) fn start(host: &Host, operations: &[Value]) -> Running {
    let program = format!("./{NAME}");
    let input = serde_json::to_vec(operations).unwrap();
    Running::with_input(&mut host.command(["exec", "--", &program]), input)
}

/// Runs these operations at once in the guest. Returns the result of each.
#[track_caller]
pub(super) fn run(host: &Host, operations: &[Value]) -> Vec<Value> {
    let output = start(host, operations).finish().success();
    let results: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(results.len(), operations.len(), "{output}");
    results
}

/// Runs one operation in the guest. Returns its result.
#[track_caller]
pub(super) fn run_one(host: &Host, operation: Value) -> Value {
    run(host, &[operation]).remove(0)
}

/// The expected result of a request to an address or to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// A server answers.
    Served,
    /// The connection is refused, or ICMP reports the datagram as unreachable.
    Refused,
    /// The name does not exist.
    NoName,
    /// The name has no addresses.
    NoAddress,
}

use Expected::{NoAddress, NoName, Refused, Served};

/// Returns a plain HTTP request to `ADDRESS:PORT` or `NAME:PORT`.
pub(super) fn connect(to: &str) -> Value {
    let send = format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    json!({"do": "talk", "to": to, "send": send})
}

/// Returns the head of a WebSocket request, with more header lines.
pub(super) fn open_socket(target: &str, host: &str, lines: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

pub(super) fn datagram(to: &str) -> Value {
    json!({"do": "datagram", "to": to, "send": "hello"})
}

pub(super) fn ping(to: &str) -> Value {
    json!({"do": "ping", "to": to})
}

/// Returns a question to the sandbox's resolver.
pub(super) fn ask(name: &str, record_type: &str) -> Value {
    json!({"do": "ask", "name": name, "type": record_type})
}

/// Returns a question to another resolver.
pub(super) fn ask_at(server: &str, tcp: bool) -> Value {
    let server = format!("{server}:53");
    json!({"do": "ask", "name": "mirror.test", "type": "A", "server": server, "tcp": tcp})
}

/// Runs all operations at once and panics with all unexpected results.
#[track_caller]
pub(super) fn check(host: &Host, cases: &[(Value, Expected)]) {
    let operations: Vec<Value> = cases
        .iter()
        .map(|(operation, _)| operation.clone())
        .collect();
    let results = run(host, &operations);
    let wrong: Vec<String> = cases
        .iter()
        .zip(&results)
        .filter(|((operation, expected), result)| classify(operation, result) != Some(*expected))
        .map(|((operation, expected), result)| format!("{operation}: not {expected:?}: {result}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn classify(operation: &Value, result: &Value) -> Option<Expected> {
    let error = result["error"].as_str().unwrap_or_default();
    let answer = result["answer"].as_str().unwrap_or_default();
    match (operation["do"].as_str().unwrap(), error) {
        ("talk", "") if answer.contains("served by") => Some(Served),
        ("datagram", "") if answer == "echo: hello" => Some(Served),
        ("ping", "") if answer == "a ping" => Some(Served),
        ("ask", "") if result["code"] == "NXDomain" => Some(NoName),
        ("ask", "") if result["code"] == "NoError" => {
            match result["records"].as_array().unwrap().is_empty() {
                true => Some(NoAddress),
                false => Some(Served),
            }
        }
        // Refused by a reset, before the connection was established.
        ("talk", "refused") if result["connected"] == false => Some(Refused),
        ("ask", "refused") if operation["tcp"] == true => Some(Refused),
        ("datagram" | "ping" | "ask", "unreachable") => Some(Refused),
        (_, "name: NXDomain") => Some(NoName),
        (_, "name: NoError") => Some(NoAddress),
        _ => None,
    }
}

/// Returns the entries of `sandbox proxy logs --json`.
#[track_caller]
pub(super) fn logged(host: &Host) -> Vec<Value> {
    let output = host.run(["proxy", "logs", "--json"]).success();
    let lines = output.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
