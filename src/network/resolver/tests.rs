//! Addresses of resolvers, and configurations that change.

use std::fs;

use super::*;

#[test]
fn resolvers_have_port_53_unless_another_is_named() {
    for (text, expected) in [
        ("192.0.2.53", Some("192.0.2.53:53")),
        ("192.0.2.53:5353", Some("192.0.2.53:5353")),
        ("2001:db8::53", Some("[2001:db8::53]:53")),
        ("[2001:db8::53]:5353", Some("[2001:db8::53]:5353")),
        ("[2001:db8::53]", None),
        ("0.0.0.0", None),
        ("192.0.2.53:0", None),
        ("dns.example", None),
        ("", None),
    ] {
        let found = text.parse::<ResolverAddress>().ok();
        assert_eq!(
            found.map(|it| it.to_string()).as_deref(),
            expected,
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_configuration_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        hosts: directory.path().join("hosts"),
        resolv_conf: directory.path().join("resolv.conf"),
    };
    fs::write(&sources.hosts, "192.0.2.1 a.example\n").unwrap();
    let resolver = Resolver::with_sources(None, sources.clone());
    let name: DomainName = "a.example".parse().unwrap();
    let ask = async || {
        let records = resolver.records(&name, RecordType::A).await.unwrap();
        addresses(&records)
            .map(|(address, _)| address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ask().await, ["192.0.2.1"]);
    fs::write(&sources.hosts, "192.0.2.2 a.example\n").unwrap();
    assert_eq!(ask().await, ["192.0.2.1"], "not looked at yet");
    tokio::time::advance(LOOK_AGAIN).await;
    assert_eq!(ask().await, ["192.0.2.2"]);
}
