//! Names, their addresses, and connections to them.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;

fn tcp(text: &str, port: u16) -> Destination {
    Destination {
        address: address(text),
        port,
        transport: Transport::Tcp,
    }
}

#[tokio::test]
async fn resolved_addresses_are_recorded_for_name() {
    let lab = Lab::proxy(&[], ".example.com\n").await;
    lab.upstream
        .set("www.example.com", 300, &["192.0.2.1", "2001:db8::1"]);
    let resolved = lab
        .policy_engine
        .resolve(&name("www.example.com"))
        .await
        .unwrap();
    assert_eq!(
        resolved.addresses,
        [address("192.0.2.1"), address("2001:db8::1")]
    );
    assert!(resolved.ttl <= Duration::from_secs(300));
    assert!(
        lab.policy_engine
            .resolved_to(&name("www.example.com"), address("2001:db8::1"))
    );
    assert!(
        lab.policy_engine
            .resolved_to(&name("www.example.com"), address("::ffff:192.0.2.1"))
    );
    assert!(
        !lab.policy_engine
            .resolved_to(&name("www.example.com"), address("192.0.2.2"))
    );
    assert!(
        !lab.policy_engine
            .resolved_to(&name("a.example.com"), address("192.0.2.1"))
    );
}

#[tokio::test]
async fn hosts_file_is_used_and_filtered() {
    let lab = Lab::open(Preset::Public, &[]).await;
    let known = lab
        .policy_engine
        .resolve(&name("known.example"))
        .await
        .unwrap();
    assert_eq!(known.addresses, [address("192.0.2.99")]);
    let inside = lab.policy_engine.resolve(&name("inside.example")).await;
    assert!(
        matches!(
            inside,
            Err(ResolveError::Denied {
                reason: Reason::AddressBehindName,
                ..
            })
        ),
        "{inside:?}"
    );
    let absent = lab.policy_engine.resolve(&name("absent.example")).await;
    assert_eq!(
        absent,
        Err(ResolveError::Lookup(
            crate::resolver::LookupError::NoSuchName
        ))
    );
}

#[tokio::test]
async fn forbidden_addresses_of_name_are_dropped() {
    let all = [
        "192.0.2.1",
        "10.1.2.3",
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "192.168.7.20",
        "203.0.113.7",
        "10.0.2.2",
        "::1",
        "::ffff:10.1.2.3",
        "fe80::1",
        "fd12::1",
        "2002:a01:203::1",
        "2001:db8::1",
    ];
    for (preset, rules, kept) in [
        (Preset::Public, &[][..], &["192.0.2.1", "2001:db8::1"][..]),
        (
            Preset::Private,
            &[],
            &[
                "10.1.2.3",
                "192.0.2.1",
                "2001:db8::1",
                "2002:a01:203::1",
                "::ffff:10.1.2.3",
                "fd12::1",
            ],
        ),
        (
            Preset::Public,
            &["allow@10.1.0.0/16:tcp:443"],
            // An IPv4-mapped address is the IPv4 address.
            &["10.1.2.3", "192.0.2.1", "2001:db8::1", "::ffff:10.1.2.3"],
        ),
        (
            Preset::Public,
            &["allow@host:8080"],
            &[
                "10.0.2.2",
                "192.0.2.1",
                "192.168.7.20",
                "2001:db8::1",
                "203.0.113.7",
            ],
        ),
        // A rule for the name does not allow its addresses.
        (
            Preset::Public,
            &["allow@many.example"],
            &["192.0.2.1", "2001:db8::1"],
        ),
        (
            Preset::Private,
            &["deny@fd00::/8"],
            &[
                "10.1.2.3",
                "192.0.2.1",
                "2001:db8::1",
                "2002:a01:203::1",
                "::ffff:10.1.2.3",
            ],
        ),
    ] {
        let lab = Lab::open(preset, rules).await;
        lab.upstream.set("many.example", 300, &all);
        let resolved = lab
            .policy_engine
            .resolve(&name("many.example"))
            .await
            .unwrap();
        let mut found: Vec<_> = resolved.addresses.iter().map(ToString::to_string).collect();
        found.sort();
        assert_eq!(found, kept, "{preset} {rules:?}");
    }
}

#[tokio::test]
async fn domain_rule_matches_resolved_address_until_ttl() {
    let lab = Lab::open(Preset::None, &["allow@*.example.com:tcp:443"]).await;
    lab.upstream.set("a.example.com", 300, &["192.0.2.1"]);
    let before = lab.policy_engine.outbound(&tcp("192.0.2.1", 443));
    assert!(matches!(before, Verdict::Deny { .. }));
    lab.policy_engine
        .resolve(&name("a.example.com"))
        .await
        .unwrap();
    let Verdict::Allow { name, rule, .. } = lab.policy_engine.outbound(&tcp("192.0.2.1", 443))
    else {
        panic!();
    };
    assert_eq!(name.unwrap().as_str(), "a.example.com");
    assert_eq!(rule.to_string(), "allow@*.example.com:tcp:443");
    assert!(matches!(
        lab.policy_engine.outbound(&tcp("192.0.2.1", 80)),
        Verdict::Deny { .. }
    ));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    assert!(matches!(
        lab.policy_engine.outbound(&tcp("192.0.2.1", 443)),
        Verdict::Deny { .. }
    ));
}

#[tokio::test]
async fn dial_connects_where_rule_allows_address() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rule = format!("allow@127.0.0.1:tcp:{port}");
    let lab = Lab::open(Preset::Public, &[&rule]).await;
    lab.upstream.set("local.example", 0, &["127.0.0.1"]);
    let (stream, to) = lab
        .policy_engine
        .dial(&name("local.example"), port)
        .await
        .unwrap();
    assert_eq!(to, stream.peer_addr().unwrap());
    let (host, _) = lab
        .policy_engine
        .dial(&name(HOST_NAME), port)
        .await
        .unwrap();
    assert_eq!(host.peer_addr().unwrap().port(), port);
    let closed = lab
        .policy_engine
        .dial(&name("local.example"), port ^ 1)
        .await;
    assert!(
        matches!(closed, Err(DialError::Resolve(ResolveError::Denied { .. }))),
        "{closed:?}"
    );
}

#[tokio::test]
async fn dial_denies_name_that_moved_to_private_address() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let domain_rule = format!("allow@turns.example:tcp:{port}");
    let lab = Lab::open(Preset::Public, &[&domain_rule]).await;
    lab.upstream.set("turns.example", 0, &["192.0.2.1"]);
    let first = lab
        .policy_engine
        .resolve(&name("turns.example"))
        .await
        .unwrap();
    assert_eq!(first.addresses, [address("192.0.2.1")]);
    lab.upstream.set("turns.example", 0, &["127.0.0.1"]);
    let denied = lab.policy_engine.dial(&name("turns.example"), port).await;
    assert!(
        matches!(
            denied,
            Err(DialError::Resolve(ResolveError::Denied {
                reason: Reason::AddressBehindName,
                ..
            }))
        ),
        "{denied:?}"
    );
    let there = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let denied = lab
        .policy_engine
        .dial_address(&name("turns.example"), there)
        .await;
    assert!(
        matches!(denied, Err(DialError::Resolve(ResolveError::Denied { .. }))),
        "{denied:?}"
    );
}

#[tokio::test]
async fn proxy_mode_address_rule_allows_no_name() {
    let lab = Lab::proxy(&["allow@10.1.0.0/16:tcp:443"], "listed.example\n").await;
    let reach = |text: &str, to: &str| lab.policy_engine.reach(&name(text), to.parse().unwrap());
    assert!(reach("listed.example", "10.1.2.3:443").is_ok());
    assert!(reach("listed.example", "192.0.2.1:443").is_ok());
    for (text, to, expected) in [
        ("other.example", "10.1.2.3:443", Reason::NotListed),
        ("other.example", "192.0.2.1:443", Reason::NotListed),
        ("listed.example", "10.2.2.3:443", Reason::AddressBehindName),
        ("listed.example", "10.1.2.3:80", Reason::AddressBehindName),
        ("listed.example", "127.0.0.1:443", Reason::AddressBehindName),
        ("listed.example", "192.0.2.1:22", Reason::NotTheWeb),
    ] {
        let (_, reason) = reach(text, to).unwrap_err();
        assert_eq!(reason, expected, "{text} {to}");
    }
}
