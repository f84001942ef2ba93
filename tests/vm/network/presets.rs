//! `--network` alone: the traffic that each preset allows, by address and by name.

use super::client::{ask, ask_at, datagram, ping};
use super::world::{
    GOOGLES_RESOLVER, HOSTS, HOSTS_PRIVATE, HOSTS_V6, MIRROR, MIRROR_V6, OTHER, PRIVATE,
};
use super::{Expected, World, check, connect};
use Expected::{NoAddress, NoName, Refused, Served};
use serde_json::Value;

/// Returns the host's loopback and its own addresses, in many forms. All are refused
/// unless a preset or a rule allows them.
fn refused_host_addresses() -> Vec<(Value, Expected)> {
    let mut cases: Vec<_> = [
        "10.0.2.2:8080",
        "[fd00:5a4d:b0c5:2::2]:8080",
        "host.sandbox.internal:8080",
        "203.0.113.2:8080",
        "10.99.0.2:8080",
        "[2001:db8::2]:8080",
        // The guest's kernel sends these as IPv4.
        "[::ffff:10.0.2.2]:8080",
        "[::ffff:203.0.113.2]:8080",
        // It sends these unchanged: NAT64 twice, 6to4, IPv4-compatible.
        "[64:ff9b::127.0.0.1]:8080",
        "[64:ff9b:1::127.0.0.1]:8080",
        "[64:ff9b::203.0.113.2]:8080",
        "[2002:7f00:1::]:8080",
        "[::203.0.113.2]:8080",
    ]
    .map(|target| (connect(target), Refused))
    .into();
    cases.extend([
        (datagram("10.0.2.2:7"), Refused),
        (datagram("203.0.113.2:7"), Refused),
        (ping(HOSTS), Refused),
    ]);
    cases
}

#[test]
fn network_public_by_default_refuses_host_and_private_addresses() {
    let Some(world) = World::new() else { return };
    let zone = world.servers.zone();
    zone.set("mirror.test", &[MIRROR, MIRROR_V6]);
    for (name, address) in [
        ("loop.test", "127.0.0.1"),
        ("loop6.test", "::1"),
        ("any.test", "0.0.0.0"),
        ("mapped.test", "::ffff:127.0.0.1"),
        ("private.test", PRIVATE),
        ("own.test", HOSTS),
        ("own-private.test", HOSTS_PRIVATE),
        ("own6.test", HOSTS_V6),
        ("gateway.test", "10.0.2.2"),
        ("metadata.test", "169.254.169.254"),
    ] {
        zone.set(name, &[address]);
    }
    let host = world.host();
    World::start(&host, &[]);
    world.servers.take_reached();
    check(
        &host,
        &[
            (connect(&format!("{MIRROR}:80")), Served),
            (connect(&format!("{MIRROR}:8080")), Served),
            (connect(&format!("[{MIRROR_V6}]:80")), Served),
            (connect("mirror.test:80"), Served),
            (datagram(&format!("{MIRROR}:7")), Served),
            (datagram(&format!("[{MIRROR_V6}]:7")), Served),
            (ping(MIRROR), Served),
            (ping(MIRROR_V6), Served),
            (ask("mirror.test", "A"), Served),
            (ask("mirror.test", "AAAA"), Served),
            (ask("absent.test", "A"), NoName),
            // No server listens here, so the destination refuses.
            (connect(&format!("{MIRROR}:81")), Refused),
        ],
    );
    world.servers.take_reached();
    let mut cases = refused_host_addresses();
    cases.extend(not_public().map(|target| (connect(target), Refused)));
    cases.extend(
        [
            "loop",
            "any",
            "private",
            "own",
            "own-private",
            "gateway",
            "metadata",
        ]
        .map(|name| (connect(&format!("{name}.test:8080")), NoAddress)),
    );
    cases.extend(
        ["loop6", "mapped", "own6"].map(|name| (ask(&format!("{name}.test"), "AAAA"), NoAddress)),
    );
    cases.extend([
        (datagram("10.99.0.1:7"), Refused),
        (ping(PRIVATE), Refused),
        // Only the gateway resolves names.
        (ask_at(GOOGLES_RESOLVER, false), Refused),
        (ask_at(GOOGLES_RESOLVER, true), Refused),
        (connect(&format!("{GOOGLES_RESOLVER}:853")), Refused),
        (datagram(&format!("{GOOGLES_RESOLVER}:853")), Refused),
    ]);
    check(&host, &cases);
    let reached = world.servers.take_reached();
    let others: Vec<_> = reached
        .iter()
        .filter(|at| at.to_string() != "203.0.113.1:53")
        .collect();
    assert!(others.is_empty(), "{others:?}");
    host.stop();
}

fn not_public() -> [&'static str; 7] {
    [
        "10.99.0.1:80",
        "192.168.77.1:80",
        "100.64.0.1:80",
        "169.254.7.7:80",
        "169.254.169.254:80",
        "[fd99::1]:80",
        "[fd00:ec2::254]:80",
    ]
}

#[test]
fn network_none_refuses_everything_and_asks_no_resolver() {
    let Some(world) = World::new() else { return };
    world
        .servers
        .zone()
        .set("mirror.test", &[MIRROR, MIRROR_V6]);
    let host = world.host();
    World::start(&host, &["--network", "none"]);
    world.servers.take_reached();
    let asked = world.servers.zone().asked();
    let mut cases = refused_host_addresses();
    cases.extend(not_public().map(|target| (connect(target), Refused)));
    cases.extend([
        (connect(&format!("{MIRROR}:80")), Refused),
        (connect(&format!("[{MIRROR_V6}]:80")), Refused),
        (datagram(&format!("{MIRROR}:7")), Refused),
        (ping(MIRROR), Refused),
        (ask("mirror.test", "A"), NoName),
        (ask("secret-in-a-name.mirror.test", "TXT"), NoName),
        (connect("mirror.test:80"), NoName),
        (ask_at(GOOGLES_RESOLVER, false), Refused),
    ]);
    check(&host, &cases);
    assert_eq!(world.servers.take_reached(), []);
    assert_eq!(world.servers.zone().asked(), asked);
    host.stop();
}

#[test]
fn network_private_allows_private_networks_but_not_host() {
    let Some(world) = World::new() else { return };
    let zone = world.servers.zone();
    zone.set("private.test", &[PRIVATE]);
    zone.set("loop.test", &["127.0.0.1"]);
    zone.set("own-private.test", &[HOSTS_PRIVATE]);
    let host = world.host();
    World::start(&host, &["--network", "private"]);
    check(
        &host,
        &[
            (connect(&format!("{MIRROR}:80")), Served),
            (connect(&format!("[{MIRROR_V6}]:80")), Served),
            (connect("10.99.0.1:80"), Served),
            (connect("192.168.77.1:80"), Served),
            (connect("100.64.0.1:80"), Served),
            (connect("[fd99::1]:80"), Served),
            (connect("private.test:80"), Served),
            (datagram("10.99.0.1:7"), Served),
            (ping(PRIVATE), Served),
            (connect("169.254.7.7:80"), Refused),
            (connect("169.254.169.254:80"), Refused),
            (connect("[fd00:ec2::254]:80"), Refused),
            (connect("loop.test:8080"), NoAddress),
            (connect("own-private.test:8080"), NoAddress),
            (ask_at(PRIVATE, false), Refused),
        ],
    );
    check(&host, &refused_host_addresses());
    host.stop();
}

#[test]
fn network_all_allows_host_loopback() {
    let Some(world) = World::new() else { return };
    world.servers.zone().set("loop.test", &["127.0.0.1"]);
    let host = world.host();
    World::start(&host, &["--network", "all"]);
    check(
        &host,
        &[
            (connect(&format!("{OTHER}:80")), Served),
            (connect("10.99.0.1:80"), Served),
            (connect("169.254.7.7:80"), Served),
            (connect("169.254.169.254:80"), Served),
            (connect("10.0.2.2:8080"), Served),
            (connect("[fd00:5a4d:b0c5:2::2]:8080"), Served),
            (connect("host.sandbox.internal:8080"), Served),
            (connect("203.0.113.2:8080"), Served),
            (datagram("10.0.2.2:7"), Served),
            (ping(HOSTS), Served),
            // A public name that resolves to the loopback still has no address.
            (connect("loop.test:8080"), NoAddress),
            // Another resolver is still refused.
            (ask_at(GOOGLES_RESOLVER, false), Refused),
        ],
    );
    host.stop();
}
