//! Decisions by preset, rule, group and mode.

use std::time::Duration;

use super::*;

fn destination(text: &str) -> Destination {
    let (transport, target) = text.split_once(' ').unwrap();
    let transport: Transport = transport.parse().unwrap();
    if transport == Transport::Icmp {
        return Destination {
            address: address(target),
            port: 0,
            transport,
        };
    }
    let target: SocketAddr = target.parse().unwrap();
    Destination {
        address: target.ip(),
        port: target.port(),
        transport,
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow { to, rule, .. } => format!("{to} by {rule}"),
        Verdict::Intercept => "intercept".into(),
        Verdict::Deny { rule, reason } => format!("{reason:?} by {rule}"),
    }
}

#[tokio::test]
async fn presets_allow_documented_destinations() {
    // Each destination, and the presets that allow it.
    let targets = [
        ("tcp 93.184.215.14:443", "public private all"),
        ("udp 93.184.215.14:443", "public private all"),
        ("icmp 93.184.215.14", "public private all"),
        ("tcp 192.0.2.1:22", "public private all"),
        ("tcp [2001:db8::1]:443", "public private all"),
        ("tcp 10.1.2.3:443", "private all"),
        ("tcp 100.64.0.1:443", "private all"),
        ("tcp [fd12::1]:443", "private all"),
        ("tcp 192.168.7.20:443", "all"),
        ("tcp 203.0.113.7:443", "all"),
        ("tcp 10.0.2.2:5432", "all"),
        ("tcp 127.0.0.1:5432", "all"),
        ("tcp [::1]:5432", "all"),
        ("tcp [::ffff:127.0.0.1]:5432", "all"),
        ("tcp [::ffff:10.0.2.2]:5432", "all"),
        ("tcp [64:ff9b::7f00:1]:5432", "all"),
        ("tcp [::ffff:93.184.215.14]:443", "public private all"),
        ("tcp [64:ff9b::5db8:d70e]:443", "all"),
        ("tcp 169.254.169.254:80", "all"),
        ("tcp [fd00:ec2::254]:80", "all"),
        ("tcp 169.254.1.1:80", "all"),
        ("udp 224.0.0.251:5353", "all"),
        ("udp 255.255.255.255:67", "all"),
        ("udp 8.8.8.8:53", ""),
        ("tcp 8.8.8.8:53", ""),
        ("tcp 8.8.8.8:853", ""),
        ("udp 8.8.8.8:853", ""),
        ("udp 10.0.2.2:53", ""),
    ];
    for preset in [Preset::None, Preset::Public, Preset::Private, Preset::All] {
        let lab = Lab::open(preset, &[]).await;
        for (target, allowed_under) in targets {
            let verdict = lab.policy_engine.outbound(&destination(target));
            let expected = allowed_under.split(' ').any(|word| word == preset.as_str());
            let allowed = matches!(verdict, Verdict::Allow { .. });
            assert_eq!(allowed, expected, "{preset} {target} {verdict:?}");
        }
    }
}

#[tokio::test]
async fn first_matching_rule_wins() {
    let lab = Lab::open(
        Preset::Public,
        &[
            "deny@10.1.0.0/16:tcp:22",
            "allow@10.0.0.0/8:tcp",
            "deny@192.0.2.0/24",
            "allow@192.0.2.1",
            "allow@host:tcp:5432,8000-8010",
            "allow@8.8.8.8:udp:53",
            "allow@[2001:db8:1::]/48:443",
            "deny@public:icmp",
            "deny@93.184.215.14",
        ],
    )
    .await;
    for (target, expected) in [
        ("tcp 10.1.2.3:22", "Rule by deny@10.1.0.0/16:tcp:22"),
        ("tcp 10.1.2.3:23", "10.1.2.3:23 by allow@10.0.0.0/8:tcp"),
        ("udp 10.1.2.3:23", "Preset by network public"),
        ("tcp 192.0.2.1:80", "Rule by deny@192.0.2.0/24"),
        (
            "tcp 10.0.2.2:5432",
            "127.0.0.1:5432 by allow@10.0.0.0/8:tcp",
        ),
        (
            "tcp 203.0.113.7:8005",
            "203.0.113.7:8005 by allow@host:tcp:5432,8000-8010",
        ),
        ("tcp 203.0.113.7:8011", "Preset by network public"),
        ("udp 8.8.8.8:53", "8.8.8.8:53 by allow@8.8.8.8:udp:53"),
        ("tcp 8.8.8.8:53", "OtherResolver by resolvers"),
        ("icmp 1.1.1.1", "Rule by deny@public:icmp"),
        ("udp 1.1.1.1:1", "1.1.1.1:1 by network public"),
        (
            "udp [2001:db8:1::5]:443",
            "[2001:db8:1::5]:443 by allow@[2001:db8:1::/48]:443",
        ),
        // A rule that denies an IPv4 address also denies its 6to4 and its mapped form.
        ("tcp [2002:5db8:d70e::1]:80", "Rule by deny@93.184.215.14"),
        ("tcp [::ffff:192.0.2.9]:80", "Rule by deny@192.0.2.0/24"),
    ] {
        assert_eq!(
            word(&lab.policy_engine.outbound(&destination(target))),
            expected,
            "{target}"
        );
    }
}

#[tokio::test]
async fn host_is_reachable_by_group_address_or_name() {
    for rule in [
        "allow@host:tcp:5432",
        "allow@loopback:tcp:5432",
        "allow@10.0.2.2:tcp:5432",
        "allow@127.0.0.1:tcp:5432",
        "allow@host.sandbox.internal:tcp:5432",
    ] {
        let lab = Lab::open(Preset::Public, &[rule]).await;
        let verdict = lab
            .policy_engine
            .outbound(&destination("tcp 10.0.2.2:5432"));
        let Verdict::Allow { to, name, .. } = verdict else {
            panic!("{rule} {verdict:?}");
        };
        assert_eq!(to, "127.0.0.1:5432".parse().unwrap());
        assert_eq!(name.unwrap().as_str(), HOST_NAME);
        let other = lab
            .policy_engine
            .outbound(&destination("tcp 10.0.2.2:5433"));
        assert!(matches!(other, Verdict::Deny { .. }), "{rule}");
        assert!(
            lab.policy_engine.named(&name_of_host(), 5432).is_allowed(),
            "{rule}"
        );
        assert!(
            !lab.policy_engine.named(&name_of_host(), 5433).is_allowed(),
            "{rule}"
        );
    }
    let lab = Lab::open(Preset::All, &["deny@loopback"]).await;
    for target in [
        "tcp 10.0.2.2:5432",
        "tcp 127.0.0.1:5432",
        "tcp [fd00:5a4d:b0c5:2::2]:1",
    ] {
        let verdict = lab.policy_engine.outbound(&destination(target));
        assert_eq!(word(&verdict), "Rule by deny@loopback", "{target}");
    }
}

fn name_of_host() -> DomainName {
    name(HOST_NAME)
}

#[tokio::test]
async fn proxy_mode_intercepts_web_ports_and_denies_others() {
    let lab = Lab::proxy(
        &[
            "allow@10.1.2.3:tcp:22",
            "deny@192.0.2.66",
            "allow@192.0.2.67:443",
        ],
        "",
    )
    .await;
    for (target, expected) in [
        ("tcp 93.184.215.14:80", "intercept"),
        ("tcp 93.184.215.14:443", "intercept"),
        ("tcp [2001:db8::1]:443", "intercept"),
        ("udp 93.184.215.14:443", "Quic by proxy"),
        ("tcp 93.184.215.14:8080", "NotTheWeb by proxy"),
        ("tcp 93.184.215.14:22", "NotTheWeb by proxy"),
        ("udp 93.184.215.14:123", "NotTheWeb by proxy"),
        ("icmp 93.184.215.14", "NotTheWeb by proxy"),
        ("udp 8.8.8.8:53", "OtherResolver by resolvers"),
        ("tcp 1.1.1.1:853", "OtherResolver by resolvers"),
        ("tcp 10.1.2.3:443", "Preset by network public"),
        ("tcp 127.0.0.1:443", "Preset by network public"),
        ("tcp 10.0.2.2:80", "Preset by network public"),
        ("tcp 169.254.169.254:80", "Preset by network public"),
        ("tcp 10.1.2.3:22", "10.1.2.3:22 by allow@10.1.2.3:tcp:22"),
        ("tcp 192.0.2.66:443", "Rule by deny@192.0.2.66"),
        (
            "udp 192.0.2.67:443",
            "192.0.2.67:443 by allow@192.0.2.67:443",
        ),
    ] {
        assert_eq!(
            word(&lab.policy_engine.outbound(&destination(target))),
            expected,
            "{target}"
        );
    }
}

#[tokio::test]
async fn names_are_decided_by_rules_then_allowlist() {
    let lab = Lab::proxy(
        &["deny@evil.example.com", "allow@git.example.org:tcp:22"],
        "example.com\n*.example.com\n",
    )
    .await;
    let word = |text: &str, port| match lab.policy_engine.named(&name(text), port) {
        NamedVerdict::Allow { rule } => format!("by {rule}"),
        NamedVerdict::Deny { rule, reason } => format!("{reason:?} by {rule}"),
    };
    for (text, port, expected) in [
        ("example.com", 443, "by allowlist example.com"),
        ("www.example.com", 80, "by allowlist *.example.com"),
        ("www.example.com", 22, "NotTheWeb by proxy"),
        ("evil.example.com", 443, "Rule by deny@evil.example.com"),
        ("git.example.org", 22, "by allow@git.example.org:tcp:22"),
        ("git.example.org", 443, "NotListed by proxy"),
        ("example.org", 443, "NotListed by proxy"),
        (HOST_NAME, 443, "NotListed by proxy"),
    ] {
        assert_eq!(word(text, port), expected, "{text} {port}");
    }
    lab.policy_engine
        .allow_until_stop(".example.org".parse().unwrap());
    assert_eq!(word("a.example.org", 443), "by once .example.org");
    let open = Lab::open(Preset::None, &["allow@a.example:tcp:443"]).await;
    assert!(
        open.policy_engine
            .named(&name("a.example"), 443)
            .is_allowed()
    );
    assert!(
        !open
            .policy_engine
            .named(&name("a.example"), 80)
            .is_allowed()
    );
    assert!(
        !open
            .policy_engine
            .named(&name("b.example"), 443)
            .is_allowed()
    );
}

#[tokio::test]
async fn published_port_is_allowed_without_deny_rule() {
    let lab = Lab::open(
        Preset::None,
        &[
            "allow:in@192.168.1.5:tcp:80",
            "deny:in@private:tcp:80",
            "deny@loopback",
        ],
    )
    .await;
    let inbound = |client: &str, port| {
        let client = SocketAddr::new(address(client), 40_000);
        word(&lab.policy_engine.inbound(client, port, Transport::Tcp))
    };
    assert_eq!(inbound("127.0.0.1", 80), "10.0.2.15:80 by published");
    assert_eq!(
        inbound("192.168.1.5", 80),
        "10.0.2.15:80 by allow:in@192.168.1.5:tcp:80"
    );
    assert_eq!(inbound("192.168.1.6", 80), "Rule by deny:in@private:tcp:80");
    assert_eq!(inbound("192.168.1.6", 81), "10.0.2.15:81 by published");
}

/// Time is paused, so that only the test advances it.
#[tokio::test(start_paused = true)]
async fn allowlist_edit_affects_running_engine() {
    let lab = Lab::proxy(&[], "example.com\n").await;
    let allowed = |text: &str| lab.policy_engine.named(&name(text), 443).is_allowed();
    assert!(allowed("example.com") && !allowed("example.org"));
    std::fs::write(lab.list(), "example.org\n").unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(
        !allowed("example.com") && allowed("example.org"),
        "written in place"
    );
    let other = lab.list().with_extension("new");
    std::fs::write(&other, "example.net # by rename\n^broken($\n").unwrap();
    std::fs::rename(&other, lab.list()).unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(
        !allowed("example.org") && allowed("example.net"),
        "replaced"
    );
    std::fs::remove_file(lab.list()).unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!allowed("example.net"), "removed");
    std::fs::write(lab.list(), ".example.com\n").unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(allowed("www.example.com"), "created again");
}

#[tokio::test]
async fn recheck_signals_receivers() {
    let lab = Lab::open(Preset::Public, &[]).await;
    let mut rechecks = lab.policy_engine.rechecks();
    assert!(!rechecks.has_changed().unwrap());
    lab.policy_engine.recheck_connections();
    rechecks.changed().await.unwrap();
    assert!(!rechecks.has_changed().unwrap());
}

/// Time is paused: none passes between the edit and the recheck.
#[tokio::test(start_paused = true)]
async fn recheck_uses_allowlist_of_last_edit() {
    let lab = Lab::proxy(&[], "example.com\n").await;
    let allowed = || {
        lab.policy_engine
            .named(&name("example.com"), 443)
            .is_allowed()
    };
    assert!(allowed());
    std::fs::write(lab.list(), "example.org\n").unwrap();
    assert!(allowed(), "the file is not checked yet");
    lab.policy_engine.recheck_connections();
    assert!(!allowed());
}
