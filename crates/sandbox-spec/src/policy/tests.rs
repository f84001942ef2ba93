//! Rules as text, and the flows that they match.

use super::*;
use crate::address::{AddressKind, classify};

fn rule(text: &str) -> Rule {
    text.parse().unwrap()
}

#[test]
fn rule_displays_in_its_canonical_form() {
    for (text, written) in [
        ("allow@public", "allow@public"),
        ("deny:out@private:tcp", "deny@private:tcp"),
        ("allow:in@10.1.2.3:tcp:80", "allow:in@10.1.2.3:tcp:80"),
        (
            "allow@10.0.0.0/8:udp:53,8000-8010",
            "allow@10.0.0.0/8:udp:53,8000-8010",
        ),
        ("allow@10.0.0.0/8:443", "allow@10.0.0.0/8:443"),
        (
            "deny@Bücher.example:tcp:443",
            "deny@xn--bcher-kva.example:tcp:443",
        ),
        ("deny@*.example.com.", "deny@*.example.com"),
        ("allow@.example.com:443", "allow@.example.com:443"),
        ("allow@[2001:db8::1]", "allow@[2001:db8::1]"),
        ("allow@[2001:DB8::1]:tcp:443", "allow@[2001:db8::1]:tcp:443"),
        ("allow@[2001:db8::]/32:443", "allow@[2001:db8::/32]:443"),
        ("allow@[2001:db8::/32]:443", "allow@[2001:db8::/32]:443"),
        ("allow@2001:db8::/32", "allow@[2001:db8::/32]"),
        ("allow@[::ffff:10.1.2.3]:443", "allow@10.1.2.3:443"),
        ("deny@link-local:icmp", "deny@link-local:icmp"),
        ("deny@metadata", "deny@metadata"),
        ("allow@host:tcp:5432", "allow@host:tcp:5432"),
        ("allow@0.0.0.0/0", "allow@0.0.0.0/0"),
        ("deny@Metadata", "deny@metadata"),
        ("allow@nas.:tcp:445", "allow@nas.:tcp:445"),
        ("allow@public.", "allow@public."),
    ] {
        let rule = rule(text);
        assert_eq!(rule.to_string(), written);
        assert_eq!(written.parse::<Rule>().unwrap(), rule);
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    }
}

#[test]
fn rule_of_another_form_is_refused_with_its_reason() {
    for (text, expected) in [
        ("", "form"),
        ("allow", "form"),
        ("@public", "form"),
        ("permit@public", "form"),
        ("allow:both@public", "form"),
        ("ALLOW@public", "form"),
        ("allow@public:sctp", "form"),
        ("allow@public:tcp:http", "ports"),
        ("allow@public:http", "form"),
        ("allow@[2001:db8::1", "form"),
        ("allow@[2001:db8::1]443", "form"),
        ("allow@[]:443", "form"),
        ("allow@[2001:db8::1]/129", "form"),
        ("allow@2001:db8::1", "brackets"),
        ("allow@2001:db8::1:443", "brackets"),
        ("allow@2001:db8:0:0:0:0:0:1", "brackets"),
        ("deny@metdata", "one label"),
        ("allow@ｐublic", "one label"),
        ("allow@10.0.0.1/8", "host bits"),
        ("allow@[2001:db8::1/32]", "host bits"),
        ("allow@10.0.0.0/33", "target"),
        ("allow@", "target"),
        ("allow@*", "target"),
        ("allow@300.1.2.3", "target"),
        ("allow@127.1", "target"),
        ("allow@a.*.example", "target"),
        ("allow@^a$", "target"),
        ("allow@^(a|b)$", "target"),
        ("allow@public:tcp:", "ports"),
        ("allow@public:tcp:0", "ports"),
        ("allow@public:tcp:65536", "ports"),
        ("allow@public:tcp:+80", "ports"),
        ("allow@public:tcp:90-80", "ports"),
        ("allow@public:tcp:80-", "ports"),
        ("allow@public:tcp:80,,81", "ports"),
        ("allow@public:tcp:80:81", "ports"),
        ("allow@public:icmp:8", "icmp"),
        ("allow:in@example.com", "comes in"),
    ] {
        let error = text.parse::<Rule>().unwrap_err();
        let kind = match &error {
            RuleError::Form(_) => "form",
            RuleError::Brackets(_) => "brackets",
            RuleError::Target { .. } => "target",
            RuleError::HostBits(_) => "host bits",
            RuleError::OneLabel(_) => "one label",
            RuleError::Ports(_) => "ports",
            RuleError::PortsOfIcmp(_) => "icmp",
            RuleError::DomainComesIn(_) => "comes in",
            RuleError::Preset(_) => "preset",
        };
        assert_eq!(kind, expected, "{text}: {error}");
        assert!(error.hint().is_some(), "{text}");
    }
    assert!("internet".parse::<Preset>().is_err());
}

/// Matches a flow to `target`, an address or a name.
fn matches(rule: &Rule, transport: Transport, target: &str, port: u16) -> bool {
    let peer = target.parse().ok().map(|asked| Peer {
        asked,
        reached: asked,
        kind: classify(asked, &|_| false),
    });
    let name: Option<DomainName> = target.parse().ok();
    rule.matches(&Flow {
        direction: Direction::Out,
        peer,
        named: &|pattern| name.as_ref().is_some_and(|name| pattern.matches(name)),
        transport,
        port,
    })
}

#[test]
fn rule_matches_its_transport_and_ports_only() {
    use Transport::{Icmp, Tcp, Udp};
    for (text, inside, outside) in [
        (
            "allow@public",
            &[(Tcp, 1), (Udp, 2), (Icmp, 0)][..],
            &[][..],
        ),
        ("allow@public:tcp", &[(Tcp, 1)], &[(Udp, 1), (Icmp, 0)]),
        ("allow@public:icmp", &[(Icmp, 0)], &[(Udp, 1), (Tcp, 1)]),
        (
            "allow@public:80,8000-8010",
            &[(Tcp, 80), (Udp, 80), (Tcp, 8000), (Tcp, 8010)],
            &[(Tcp, 81), (Tcp, 7999), (Tcp, 8011), (Icmp, 0)],
        ),
        ("allow@public:udp:53", &[(Udp, 53)], &[(Tcp, 53), (Udp, 54)]),
    ] {
        let rule = rule(text);
        for (transport, port) in inside {
            assert!(
                matches(&rule, *transport, "192.0.2.1", *port),
                "{text} {port}"
            );
        }
        for (transport, port) in outside {
            assert!(
                !matches(&rule, *transport, "192.0.2.1", *port),
                "{text} {port}"
            );
        }
    }
}

#[test]
fn rule_matches_its_addresses_or_names_only() {
    for (text, inside, outside) in [
        (
            "allow@10.1.0.0/16",
            &["10.1.0.0", "10.1.255.255"][..],
            &["10.2.0.0", "a.example"][..],
        ),
        ("allow@10.1.2.3", &["10.1.2.3"], &["10.1.2.4"]),
        (
            "allow@[2001:db8::/32]",
            &["2001:db8::1"],
            &["2001:db9::1", "10.0.0.1"],
        ),
        (
            "allow@*.example.com",
            &["a.example.com"],
            &["example.com", "192.0.2.1"],
        ),
        (
            "allow@private",
            &["10.1.2.3", "fd12::1"],
            &["192.0.2.1", "private"],
        ),
        // An IPv4 address denies the IPv6 addresses that contain it, and does not allow them.
        (
            "allow@10.1.2.3",
            &[],
            &["2002:a01:203::1", "64:ff9b::a01:203"],
        ),
        (
            "deny@10.1.2.3",
            &["2002:a01:203::1", "64:ff9b::a01:203"],
            &["2002:a01:204::1"],
        ),
    ] {
        let rule = rule(text);
        for target in inside {
            assert!(matches(&rule, Transport::Tcp, target, 1), "{text} {target}");
        }
        for target in outside {
            assert!(
                !matches(&rule, Transport::Tcp, target, 1),
                "{text} {target}"
            );
        }
    }
}

#[test]
fn rule_for_one_direction_does_not_match_the_other() {
    let policy = Policy {
        preset: Preset::None,
        rules: vec![rule("allow:in@private"), rule("deny@private")],
    };
    let asked = "10.1.2.3".parse().unwrap();
    let flow = |direction| Flow {
        direction,
        peer: Some(Peer {
            asked,
            reached: asked,
            kind: AddressKind::Private,
        }),
        named: &|_| false,
        transport: Transport::Tcp,
        port: 80,
    };
    let outcome = |direction| policy.first_match(&flow(direction)).unwrap().action;
    assert_eq!(outcome(Direction::In), Action::Allow);
    assert_eq!(outcome(Direction::Out), Action::Deny);
}
