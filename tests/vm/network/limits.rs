//! `--max-connections` and `--bandwidth`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{logged, run_one, start};
use super::world::MIRROR;
use super::{Expected, World, check, connect};
use crate::harness::{Host, eventually};
use Expected::Refused;

/// The explicit proxy.
const PROXY: &str = "10.0.2.100:8888";

/// The bandwidth limit, in bytes per second.
const RATE: usize = 1 << 20;
/// How far transfers may run ahead of the limit. They may start 100 ms early, and the last
/// one may end with the bytes of another 100 ms.
const AHEAD: Duration = Duration::from_millis(200);

#[test]
fn connections_and_bandwidth_stay_within_limits() {
    let Some(world) = World::new() else { return };
    world.servers.zone().set("mirror.test", &[MIRROR]);
    let host = world.host();
    host.run(["proxy", "allow", "mirror.test"]).success();
    let rule = format!("allow@{MIRROR}:tcp:8080");
    World::start(
        &host,
        &[
            "--proxy",
            "--net-rule",
            &rule,
            "--max-connections",
            "4",
            "--bandwidth",
            "1M",
        ],
    );
    check_bandwidth(&host);
    check_connections(&host);
    host.stop();
}

/// Downloads files by an address that a rule allows and by both entrances of proxy mode. They
/// arrive complete and not faster than the limit.
fn check_bandwidth(host: &Host) {
    let by_rule = format!("{MIRROR}:8080");
    for (to, proxy) in [(&*by_rule, false), ("mirror.test:80", false), (PROXY, true)] {
        // Large files at once, then small files one after the other. Each has its own
        // connection.
        for (count, parallel, length) in [(4, 4, 1 << 20), (128, 1, 32 << 10)] {
            let begin = Instant::now();
            let download = json!({
                "do": "download", "to": to, "host": "mirror.test", "proxy": proxy,
                "count": count, "parallel": parallel, "length": length,
            });
            let result = run_one(host, download);
            let took = begin.elapsed();
            assert_eq!(result, json!({"right": count}), "{to}");
            let least = Duration::from_secs_f64((count * length) as f64 / RATE as f64) - AHEAD;
            assert!(took >= least, "{to}: {count} of {length} bytes in {took:?}");
        }
    }
}

/// Holds four connections on different paths. A fifth one is refused.
fn check_connections(host: &Host) {
    let by_rule = format!("{MIRROR}:8080");
    let hold = |to: &str, target: &str| {
        let send = format!("GET {target} HTTP/1.1\r\nHost: mirror.test\r\n\r\n");
        let running = start(host, &[json!({"do": "hold", "to": to, "send": send})]);
        running.expect_stdout("open: HTTP/1.1 200");
        running
    };
    let mut held = vec![
        hold(PROXY, "http://mirror.test/endless"),
        hold("mirror.test:80", "/endless"),
        hold(&by_rule, "/endless"),
        hold(&by_rule, "/endless"),
    ];
    let elsewhere = [PROXY, "mirror.test:80", &by_rule];
    check(host, &elsewhere.map(|to| (connect(to), Refused)));
    for (address, port) in [("10.0.2.100", 8888), (MIRROR, 80), (MIRROR, 8080)] {
        let logged = logged(host);
        let found = logged.iter().find(|entry| {
            entry["verdict"] == "denied"
                && entry["rule"] == "bounds"
                && entry["reason"] == "bounds"
                && entry["address"] == address
                && entry["port"] == port
                && entry["transport"] == "tcp"
        });
        assert!(found.is_some(), "{address}:{port}: {logged:#?}");
    }
    for running in &mut held {
        assert!(running.is_running());
    }

    // After one connection has ended, a new one is allowed.
    host.guest("pkill --newest --exact network-client");
    let ended = held.pop().unwrap().finish();
    assert_ne!(ended.status, 0, "{ended}");
    let again = eventually("a free connection", || {
        let result = run_one(host, connect(&by_rule));
        (result["error"] == Value::Null).then_some(result)
    });
    assert!(again["answer"].as_str().unwrap().contains("served by"));
}
