//! `--net-rule`: the traffic that a rule matches, and the order of rules.

use super::client::{ask, ask_at, datagram, ping, run};
use super::world::{GOOGLES_RESOLVER, MIRROR, MIRROR_V6, OTHER};
use super::{Expected, World, check, connect};
use Expected::{NoAddress, NoName, Refused, Served};

/// Returns the flags for these rules, in this order.
fn flags<'a>(network: &'a str, rules: &[&'a str]) -> Vec<&'a str> {
    let mut flags = vec!["--network", network];
    for rule in rules {
        flags.extend(["--net-rule", *rule]);
    }
    flags
}

#[test]
fn net_rules_precede_preset_and_first_match_wins() {
    let Some(world) = World::new() else { return };
    let zone = world.servers.zone();
    for name in [
        "mirror.test",
        "denied.test",
        "below.denied.test",
        "wild.test",
        "a.wild.test",
        "good.wild.test",
    ] {
        zone.set(name, &[MIRROR]);
    }
    zone.set("private.test", &["10.99.0.1"]);
    zone.set("closed.test", &["192.168.77.1"]);
    zone.set("both.test", &["10.99.0.1", "192.168.77.1"]);
    let host = world.host();
    let rules = [
        "deny@198.51.100.8:tcp",
        "allow@198.51.100.0/24:tcp:80",
        "deny@198.51.100.0/24:tcp:79-443",
        "allow@10.99.0.1:tcp:80,8080",
        "allow@[fd99::/64]:tcp:80",
        "deny@[2001:db8:1::7]:udp",
        "allow@link-local:tcp:80",
        "allow@host:tcp",
        "allow@8.8.8.8:udp:53",
        "deny@denied.test",
        "allow@good.wild.test",
        "deny@*.wild.test",
        "deny@public:icmp",
    ];
    World::start(&host, &flags("public", &rules));
    check(
        &host,
        &[
            // The rule for the address precedes the rule for its network.
            (connect(&format!("{OTHER}:80")), Refused),
            (connect(&format!("{OTHER}:8080")), Refused),
            (datagram(&format!("{OTHER}:7")), Served),
            (connect(&format!("{MIRROR}:80")), Served),
            (connect(&format!("{MIRROR}:443")), Refused),
            // No rule matches, so the preset applies.
            (connect(&format!("{MIRROR}:8080")), Served),
            (connect(&format!("{MIRROR}:22")), Served),
            // Ports and transports.
            (connect("10.99.0.1:80"), Served),
            (connect("10.99.0.1:8080"), Served),
            (connect("10.99.0.1:22"), Refused),
            (datagram("10.99.0.1:7"), Refused),
            (connect("private.test:80"), Served),
            (connect("192.168.77.1:80"), Refused),
            (connect("closed.test:80"), NoAddress),
            (connect("both.test:80"), Served),
            // IPv6.
            (connect("[fd99::1]:80"), Served),
            (connect("[fd99::1]:8080"), Refused),
            (datagram(&format!("[{MIRROR_V6}]:7")), Refused),
            (connect(&format!("[{MIRROR_V6}]:80")), Served),
            // Groups. The metadata address has its own group.
            (connect("169.254.7.7:80"), Served),
            (connect("169.254.169.254:80"), Refused),
            (connect("10.0.2.2:8080"), Served),
            (connect("host.sandbox.internal:8080"), Served),
            (connect("203.0.113.2:8080"), Served),
            (connect("[2001:db8::2]:8080"), Served),
            (datagram("10.0.2.2:7"), Refused),
            (ping(MIRROR), Refused),
            (ping(MIRROR_V6), Refused),
            // Another resolver needs a rule, and this rule allows UDP only.
            (ask_at(GOOGLES_RESOLVER, false), Served),
            (ask_at(GOOGLES_RESOLVER, true), Refused),
            // Names.
            (ask("denied.test", "A"), NoName),
            (ask("denied.test", "TXT"), NoName),
            (connect("below.denied.test:80"), Served),
            (ask("a.wild.test", "A"), NoName),
            (ask("wild.test", "A"), Served),
            (ask("good.wild.test", "A"), Served),
        ],
    );
    let asked = world.servers.zone().asked();
    let denied = |question: &&String| {
        question.starts_with("denied.test") || question.starts_with("a.wild.test")
    };
    assert_eq!(asked.iter().find(denied), None, "{asked:?}");
    host.stop();
}

#[test]
fn name_rules_with_network_none_allow_only_resolved_addresses() {
    let Some(world) = World::new() else { return };
    let zone = world.servers.zone();
    zone.set("mirror.test", &[MIRROR]);
    zone.set("a.wild.test", &[OTHER]);
    zone.set("wild.test", &[OTHER]);
    zone.set("loop.test", &["127.0.0.1"]);
    let host = world.host();
    let rules = [
        "allow@mirror.test:tcp:80",
        "allow@*.wild.test",
        "allow@loop.test",
        "allow@host.sandbox.internal:tcp:8080",
        "allow@metadata:tcp:80",
    ];
    World::start(&host, &flags("none", &rules));
    let by_address = connect(&format!("{MIRROR}:80"));
    check(
        &host,
        &[
            // No question for its name has been answered yet.
            (by_address.clone(), Refused),
            (connect("169.254.169.254:80"), Served),
            (connect("169.254.7.7:80"), Refused),
            (connect("10.0.2.2:8080"), Served),
            (connect("host.sandbox.internal:8080"), Served),
            (connect("203.0.113.2:8080"), Refused),
            (datagram("10.0.2.2:7"), Refused),
        ],
    );
    run(&host, &[ask("mirror.test", "A")]);
    check(
        &host,
        &[
            (connect("mirror.test:80"), Served),
            (by_address, Served),
            (connect("mirror.test:8080"), Refused),
            (datagram("mirror.test:7"), Refused),
            (connect("wild.test:80"), NoName),
            (connect(&format!("{OTHER}:80")), Refused),
            (connect("loop.test:8080"), NoAddress),
            (ask("other.test", "A"), NoName),
        ],
    );
    check(
        &host,
        &[
            (connect("a.wild.test:8080"), Served),
            (datagram("a.wild.test:7"), Served),
        ],
    );
    host.stop();
}
