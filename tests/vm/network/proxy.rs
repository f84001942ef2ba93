//! `--proxy`: the guest reaches allowed domains only, on every path that it tries.

use std::fmt::Write;

use serde_json::{Value, json};

use super::client::{self, ask, ask_at, connect, datagram, ping, run, run_one, start};
use super::world::{GOOGLES_RESOLVER, MIRROR, MIRROR_V6, OTHER, PRIVATE, RESOLVER};
use super::{Expected, World, apt, ask, check};
use crate::harness::{Host, eventually};
use Expected::{NoAddress, NoName, Refused, Served};

/// The explicit proxy.
const PROXY: &str = "10.0.2.100:8888";

/// Returns the head of a request that is the only one on its connection.
fn get(target: &str, host: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Returns an operation that sends plain bytes.
fn say(to: &str, bytes: &str) -> Value {
    json!({"do": "talk", "to": to, "send": bytes})
}

/// Returns an operation that sends a request over TLS.
fn tls(to: &str, name: &str) -> Value {
    json!({
        "do": "talk", "to": to, "send": get("/", name),
        "tls": {"name": name, "authority": "authority.pem"},
    })
}

/// Returns the operation with another value at a JSON pointer.
fn with(mut operation: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    operation.pointer_mut(parent).unwrap()[key] = value;
    operation
}

/// Returns a CONNECT to the explicit proxy, with TLS for this name in the tunnel.
fn tunnel(target: &str, name: &str) -> Value {
    let first = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    with(tls(PROXY, name), "/first", first.into())
}

/// Returns the outcome of a conversation in a few words: status codes or the error.
fn outcome(result: &Value) -> String {
    let status = |head: &str| {
        let status = head.strip_prefix("HTTP/1.1 ").unwrap_or(head);
        status
            .split_whitespace()
            .next()
            .unwrap_or("nothing")
            .to_owned()
    };
    match (&result["first"], &result["error"], &result["answer"]) {
        (Value::String(first), ..) if status(first) != "200" => format!("proxy: {}", status(first)),
        (_, Value::String(error), _) => error.clone(),
        (_, _, Value::String(answer)) => {
            // The status of each answer on the connection.
            let all: Vec<String> = answer
                .match_indices("HTTP/1.1 ")
                .map(|(index, _)| status(&answer[index..]))
                .collect();
            if all.is_empty() {
                status(answer)
            } else {
                all.join(" ")
            }
        }
        _ => result.to_string(),
    }
}

/// Runs all operations at once and panics with all unexpected outcomes.
#[track_caller]
fn expect(host: &Host, cases: &[(Value, &str)]) {
    let operations: Vec<Value> = cases
        .iter()
        .map(|(operation, _)| operation.clone())
        .collect();
    let mut wrong = String::new();
    for ((operation, expected), result) in cases.iter().zip(run(host, &operations)) {
        let outcome = outcome(&result);
        if outcome != *expected {
            writeln!(
                wrong,
                "{operation}\n  expected {expected:?}, got {outcome:?}: {result}"
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Starts a sandbox in proxy mode. Allowed names and others share the address `MIRROR`.
fn prepare(world: &World) -> Host {
    let zone = world.servers.zone();
    zone.set("mirror.test", &[MIRROR, MIRROR_V6]);
    zone.set("same.test", &[MIRROR]);
    zone.set("other.test", &[OTHER]);
    zone.set("private.test", &[PRIVATE]);
    zone.set("loop.test", &["127.0.0.1"]);
    zone.set("metadata.test", &["169.254.169.254"]);
    zone.set("a.wild.test", &[MIRROR]);
    let host = world.host();
    let allowed = [
        "proxy",
        "allow",
        "mirror.test",
        "flip.test",
        "private.test",
        "loop.test",
        "metadata.test",
        "*.wild.test",
    ];
    // The allowlist can be edited before the sandbox exists.
    host.run(allowed).success();
    World::start(&host, &["--proxy"]);
    host
}

#[test]
fn proxy_mode_passes_only_allowed_names() {
    let Some(world) = World::new() else { return };
    let host = prepare(&world);
    check_other_traffic(&world, &host);
    check_web_ports(&host);
    check_explicit_proxy(&host);
    check_websockets(&host);
    check_changing_names(&world, &host);

    // The servers saw allowed requests only.
    let reached = world.servers.take_reached();
    let unexpected = |at: &&std::net::SocketAddr| {
        let mirrors = [MIRROR, MIRROR_V6].contains(&at.ip().to_string().as_str());
        let web = mirrors && [80, 443].contains(&at.port());
        !web && at.to_string() != format!("{RESOLVER}:53")
    };
    assert_eq!(reached.iter().find(unexpected), None, "{reached:?}");
    for seen in world.servers.seen() {
        let names = ["mirror.test", "flip.test", "a.wild.test"];
        let is_host = |name: &&str| seen.headers.contains(&format!("host: {name}\n"));
        assert!(names.iter().any(is_host), "{seen:?}");
        assert!(!seen.uri.contains("smuggled"), "{seen:?}");
        assert!([80, 443].contains(&seen.at.port()), "{seen:?}");
    }
    let allowed = [
        "mirror.test",
        "flip.test",
        "private.test",
        "loop.test",
        "metadata.test",
        "a.wild.test",
    ];
    for question in world.servers.zone().asked() {
        let (name, record_type) = question.split_once(' ').unwrap();
        assert!(allowed.contains(&name), "{question}");
        assert!(["A", "AAAA"].contains(&record_type), "{question}");
    }
    check_logs(&host);
    host.stop();
}

/// Tries all traffic except the two web ports and the explicit proxy.
fn check_other_traffic(world: &World, host: &Host) {
    world.servers.take_reached();
    let mut cases = vec![
        (connect(&format!("{MIRROR}:8080")), Refused),
        (connect(&format!("{MIRROR}:22")), Refused),
        (connect(&format!("[{MIRROR_V6}]:8080")), Refused),
        (connect("mirror.test:8080"), Refused),
        (datagram(&format!("{MIRROR}:7")), Refused),
        (datagram("mirror.test:443"), Refused),
        (ping(MIRROR), Refused),
        (ping(MIRROR_V6), Refused),
        (connect("10.0.2.2:8080"), Refused),
        (connect("10.99.0.1:80"), Refused),
        (connect("169.254.169.254:80"), Refused),
        (connect("203.0.113.2:8080"), Refused),
    ];
    for tcp in [false, true] {
        cases.push((ask_at(GOOGLES_RESOLVER, tcp), Refused));
        cases.push((ask_at(RESOLVER, tcp), Refused));
    }
    cases.push((connect(&format!("{GOOGLES_RESOLVER}:853")), Refused));
    // Names that are not allowed do not exist, for any record type.
    for record_type in ["A", "AAAA", "TXT", "NULL", "MX", "HTTPS", "ANY"] {
        cases.push((ask("other.test", record_type), NoName));
        let tunnel = "mzxw6ytboi.mzxw6ytboi.mirror.test";
        cases.push((ask(tunnel, record_type), NoName));
    }
    for record_type in ["TXT", "NULL", "HTTPS", "SVCB", "ANY"] {
        cases.push((ask("mirror.test", record_type), NoAddress));
    }
    cases.push((ask("private.test", "A"), NoAddress));
    cases.push((ask("loop.test", "A"), NoAddress));
    cases.push((ask("wild.test", "A"), NoName));
    cases.push((ask("mirror.test", "A"), Served));
    cases.push((ask("mirror.test", "AAAA"), Served));
    cases.push((ask("a.wild.test", "A"), Served));
    check(host, &cases);
    let reached = world.servers.take_reached();
    let only = format!("{RESOLVER}:53");
    assert!(
        reached.iter().all(|at| at.to_string() == only),
        "{reached:?}"
    );
}

/// Connects to the web ports like a program that ignores the proxy. DNS has already
/// resolved `mirror.test` to [`MIRROR`].
fn check_web_ports(host: &Host) {
    let plain = format!("{MIRROR}:80");
    let secure = format!("{MIRROR}:443");
    let elsewhere = format!("{OTHER}:443");
    let header = "Host: mirror.test\r\n";
    let more = "Host: mirror.test\r\nConnection: close\r\n\r\n";
    expect(
        host,
        &[
            (say("mirror.test:80", &get("/", "mirror.test")), "200"),
            (say(&plain, &get("/", "MIRROR.test")), "200"),
            (
                say(&format!("[{MIRROR_V6}]:80"), &get("/", "mirror.test")),
                "200",
            ),
            (say(&plain, &get("/", "a.wild.test")), "200"),
            // The name belongs to another address, or the address to another name.
            (say(&format!("{OTHER}:80"), &get("/", "mirror.test")), "403"),
            (say(&plain, &get("/", "same.test")), "403"),
            (say(&plain, &get("/", "other.test")), "403"),
            (say(&plain, &get("/", MIRROR)), "403"),
            (say(&plain, &get("/", "[2001:db8:1::7]")), "403"),
            (say(&plain, &get("/", "0xc6.0x33.0x64.7")), "403"),
            (say(&plain, &get("/", "mirror.test.")), "200"),
            (say(&plain, &get("/", "other.test.")), "403"),
            (say(&plain, &get("/", "user@mirror.test")), "400"),
            (say(&plain, &get("/", "mirror.test:8080")), "400"),
            // Two names in one request.
            (
                say(&plain, &get("http://other.test/", "mirror.test")),
                "400",
            ),
            (
                say(
                    &plain,
                    &format!("GET / HTTP/1.1\r\n{header}Host: other.test\r\n\r\n"),
                ),
                "400",
            ),
            (
                say(&plain, &format!("GET / HTTP/1.1\r\n{header}{more}")),
                "400",
            ),
            (
                say(&plain, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
                "400",
            ),
            // Two lengths, one of which would smuggle a request.
            (
                say(
                    &plain,
                    &format!(
                        "POST / HTTP/1.1\r\n{header}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
                         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n"
                    ),
                ),
                "400",
            ),
            (
                say(
                    &plain,
                    &format!(
                        "POST / HTTP/1.1\r\n{header}Content-Length: 5\r\nContent-Length: 6\r\n\r\n\
                         12345GET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n"
                    ),
                ),
                "400",
            ),
            // Each request is checked, not only the first of a connection.
            (
                say(
                    &plain,
                    &format!("GET / HTTP/1.1\r\n{header}\r\n{}", get("/", "other.test")),
                ),
                "200 403",
            ),
            (
                say(
                    &plain,
                    "CONNECT mirror.test:443 HTTP/1.1\r\nHost: mirror.test:443\r\n\r\n",
                ),
                "400",
            ),
            (tls("mirror.test:443", "mirror.test"), "200"),
            (tls(&secure, "a.wild.test"), "200"),
            (tls(&secure, "same.test"), "alert AccessDenied"),
            (tls(&elsewhere, "mirror.test"), "alert UnrecognisedName"),
            (
                with(tls(&secure, "mirror.test"), "/tls/sends_name", false.into()),
                "alert UnrecognisedName",
            ),
            (tls(&secure, MIRROR), "alert UnrecognisedName"),
            (
                with(tls(&secure, "mirror.test"), "/tls/fragmented", true.into()),
                "alert AccessDenied",
            ),
            // Neither TLS nor HTTP.
            (say(&secure, "SSH-2.0-OpenSSH_10.0\r\n"), "nothing"),
            (say(&secure, &get("/", "mirror.test")), "nothing"),
        ],
    );
}

fn check_explicit_proxy(host: &Host) {
    let proxy = |target: &str, host: &str| say(PROXY, &get(target, host));
    let connect = |target: &str| tunnel(target, "mirror.test");
    expect(
        host,
        &[
            (proxy("http://mirror.test/", "mirror.test"), "200"),
            (
                say("10.0.2.2:8888", &get("http://mirror.test/", "mirror.test")),
                "200",
            ),
            (proxy("http://other.test/", "other.test"), "403"),
            (proxy("http://mirror.test/", "other.test"), "400"),
            (proxy("http://other.test/", "mirror.test"), "400"),
            (proxy("http://user@mirror.test/", "mirror.test"), "400"),
            (proxy("http://mirror.test@other.test/", "other.test"), "400"),
            (proxy("http://mirror.test:8080/", "mirror.test:8080"), "403"),
            (proxy("https://mirror.test/", "mirror.test"), "400"),
            (proxy(&format!("http://{MIRROR}/"), MIRROR), "403"),
            (proxy("http://[2001:db8:1::7]/", "[2001:db8:1::7]"), "403"),
            (proxy("http://127.0.0.1:8080/", "127.0.0.1:8080"), "403"),
            (proxy("http://2130706433/", "2130706433"), "403"),
            (proxy("http://localhost/", "localhost"), "403"),
            (
                proxy(
                    "http://host.sandbox.internal:8080/",
                    "host.sandbox.internal:8080",
                ),
                "403",
            ),
            (proxy("/", "mirror.test"), "400"),
            // Allowed names with addresses that are not allowed.
            (proxy("http://private.test/", "private.test"), "403"),
            (proxy("http://loop.test/", "loop.test"), "403"),
            (proxy("http://metadata.test/", "metadata.test"), "403"),
            (connect("mirror.test:443"), "200"),
            (connect("MIRROR.TEST.:443"), "200"),
            (connect("other.test.:443"), "proxy: 403"),
            (connect("other.test:443"), "proxy: 403"),
            (connect(&format!("{MIRROR}:443")), "proxy: 403"),
            (connect("[2001:db8:1::7]:443"), "proxy: 403"),
            (connect("[::ffff:198.51.100.7]:443"), "proxy: 403"),
            (connect("mirror.test:22"), "proxy: 403"),
            (connect("mirror.test:80"), "proxy: 403"),
            (connect("mirror.test:8080"), "proxy: 403"),
            (connect("user@mirror.test:443"), "proxy: 400"),
            (connect("mirror.test"), "proxy: 400"),
            (connect("private.test:443"), "proxy: 403"),
            (connect("loop.test:443"), "proxy: 403"),
            (connect("10.0.2.3:53"), "proxy: 403"),
            (
                with(
                    connect("mirror.test:443"),
                    "/first",
                    "CONNECT mirror.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n".into(),
                ),
                "proxy: 400",
            ),
            // Another name in the tunnel, or none, or no TLS.
            (
                tunnel("mirror.test:443", "same.test"),
                "alert UnrecognisedName",
            ),
            (
                tunnel("mirror.test:443", "a.wild.test"),
                "alert UnrecognisedName",
            ),
            (
                with(connect("mirror.test:443"), "/tls/sends_name", false.into()),
                "alert UnrecognisedName",
            ),
            (
                with(connect("mirror.test:443"), "/tls/fragmented", true.into()),
                "alert AccessDenied",
            ),
            (
                with(connect("mirror.test:443"), "/tls", Value::Null),
                "nothing",
            ),
        ],
    );
}

/// After a switch of protocols, a connection carries any bytes.
fn check_websockets(host: &Host) {
    // As a request, this would be denied.
    let then = get("/smuggled", "other.test");
    let socket = |operation: Value, target: &str| {
        let send = client::open_socket(target, "mirror.test", "");
        let operation = with(operation, "/send", send.into());
        with(operation, "/then", then.clone().into())
    };
    let paths = [
        socket(say("mirror.test:80", ""), "/socket"),
        socket(tls("mirror.test:443", "mirror.test"), "/socket"),
        socket(say(PROXY, ""), "http://mirror.test/socket"),
        socket(tunnel("mirror.test:443", "mirror.test"), "/socket"),
    ];
    for (operation, result) in paths.iter().zip(run(host, &paths)) {
        let answer = result["answer"].as_str().unwrap();
        let switched = answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n");
        let echoed = answer.ends_with(&format!("\r\n\r\necho: {then}"));
        assert!(switched && echoed, "{operation}\n{result}");
        assert_eq!(result["error"], Value::Null, "{operation}\n{result}");
    }
}

/// A name resolves to a public address at first, then to a private one (rebinding).
fn check_changing_names(world: &World, host: &Host) {
    let zone = world.servers.zone();
    zone.set_changing("flip.test", &[&[MIRROR], &[PRIVATE]]);
    let request = || tunnel("flip.test:443", "flip.test");
    expect(host, &[(request(), "200")]);
    expect(host, &[(request(), "proxy: 403")]);
    // The same with a connection after the DNS answer: only the public address of the
    // answer is allowed.
    zone.set_changing("flip.test", &[&[MIRROR], &[PRIVATE]]);
    expect(host, &[(tls("flip.test:443", "flip.test"), "200")]);
    let private = format!("{PRIVATE}:443");
    expect(host, &[(tls(&private, "flip.test"), "refused")]);
    assert_eq!(run_one(host, ask("flip.test", "A"))["records"], json!([]));
}

/// Checks `proxy blocked` and `proxy logs` after the attempts above.
fn check_logs(host: &Host) {
    let output = host.run(["proxy", "blocked", "--json"]).success();
    let blocked: Vec<Value> = serde_json::from_str(&output.stdout).unwrap();
    let of = |name: &str| {
        let found = blocked.iter().find(|target| target["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {output}"))
    };
    let other = of("other.test");
    assert_eq!(other["asked"], json!(["dns", "connect", "http"]), "{other}");
    assert!(other["attempts"].as_u64().unwrap() >= 5, "{other}");
    let same = of("same.test");
    assert!(
        same["asked"].as_array().unwrap().contains(&json!("sni")),
        "{same}"
    );
    let address = blocked.iter().find(|target| {
        target["address"] == MIRROR && target["port"] == 8080 && target["transport"] == "tcp"
    });
    assert_eq!(address.unwrap()["reason"], "not-the-web");
    let logged = client::logged(host);
    for (name, asked, verdict, reason) in [
        ("mirror.test", "connect", "allowed", Value::Null),
        ("mirror.test", "sni", "allowed", Value::Null),
        ("mirror.test", "http", "allowed", Value::Null),
        (
            "private.test",
            "connect",
            "denied",
            "address-behind-name".into(),
        ),
        ("other.test", "dns", "denied", "not-listed".into()),
        ("same.test", "connect", "denied", "name-mismatch".into()),
    ] {
        let found = logged.iter().find(|entry| {
            entry["name"] == name
                && entry["asked"] == asked
                && entry["verdict"] == verdict
                && entry["reason"] == reason
                && (verdict == "denied" || entry["down"].as_u64() > Some(0))
        });
        assert!(found.is_some(), "{name} {asked} {verdict}: {logged:#?}");
    }
}

#[test]
fn proxy_mode_completes_downloads_and_applies_allowlist_edits() {
    let Some(world) = World::new() else { return };
    let host = prepare(&world);
    for (to, proxy) in [("mirror.test:80", false), (PROXY, true)] {
        for (count, parallel, length) in [(200, 200, 50_000), (2000, 1, 2_000)] {
            let download = json!({
                "do": "download", "to": to, "host": "mirror.test", "proxy": proxy,
                "count": count, "parallel": parallel, "length": length,
            });
            let result = run_one(&host, download);
            assert_eq!(result, json!({"right": count}), "{to}");
        }
    }
    ask::decide_each_name_once(&world, &host);
    apt::serve_repository(&world, host.root());
    apt::install_from_allowed_mirror(&host);
    check_allowlist_edits(&world, &host);
    host.stop();
}

/// Returns the outcome of a request for a name at the explicit proxy.
#[track_caller]
pub(super) fn reaches(host: &Host, name: &str) -> String {
    let request = get(&format!("http://{name}/"), name);
    outcome(&run_one(host, say(PROXY, &request)))
}

fn check_allowlist_edits(world: &World, host: &Host) {
    world.servers.zone().set("third.test", &[OTHER]);
    let reaches = |name: &str| reaches(host, name);
    assert_eq!(reaches("other.test"), "403");
    host.run(["proxy", "allow", "other.test"]).success();
    eventually("the new name of the list to be reachable", || {
        (reaches("other.test") == "200").then_some(())
    });
    // An edit of the file has the same effect.
    let list = host
        .state()
        .join("sandbox-proxy")
        .join(host.name())
        .join("allowlist.txt");
    let mut text = std::fs::read_to_string(&list).unwrap();
    text.push_str("third.test\n");
    std::fs::write(&list, text).unwrap();
    eventually("a name in the edited file to be reachable", || {
        (reaches("third.test") == "200").then_some(())
    });

    // Only `--cut` ends running connections.
    let hold = |to: &str, name: &str| {
        let target = if to == PROXY {
            format!("http://{name}/endless")
        } else {
            "/endless".into()
        };
        let send = format!("GET {target} HTTP/1.1\r\nHost: {name}\r\n\r\n");
        let running = start(host, &[json!({"do": "hold", "to": to, "send": send})]);
        running.expect_stdout("open: HTTP/1.1 200");
        running
    };
    let others = hold(PROXY, "other.test");
    let others_directly = hold("other.test:80", "other.test");
    let thirds = hold(PROXY, "third.test");
    let mut mirrors = hold("mirror.test:80", "mirror.test");
    host.run(["proxy", "remove", "other.test"]).success();
    eventually("the removed name to be denied", || {
        (reaches("other.test") == "403").then_some(())
    });
    host.run(["proxy", "remove", "--cut", "third.test"])
        .success();
    for ended in [others, others_directly, thirds] {
        let output = ended.finish().success();
        assert!(output.stdout.contains("answer"), "{output}");
    }
    // The allowed connection keeps running until the sandbox ends.
    assert!(mirrors.is_running());
}
