//! The kinds of all special ranges, the addresses of the host, and the groups.

use super::*;

const HOSTS: [&str; 4] = ["192.168.7.20", "203.0.113.7", "2001:db8::7", "10.0.2.15"];

fn kind(text: &str) -> AddressKind {
    let hosts = HOSTS.map(|host| host.parse::<IpAddr>().unwrap());
    classify(text.parse().unwrap(), &|address| hosts.contains(&address))
}

#[test]
fn ipv4_address_of_special_range_has_its_kind() {
    use AddressKind::{
        Gateway, Host, LinkLocal, Loopback, Metadata, Multicast, Private, Public, Reserved,
    };
    for (text, expected) in [
        ("0.0.0.0", Reserved),
        ("0.255.255.255", Reserved),
        ("1.0.0.0", Public),
        ("9.255.255.255", Public),
        ("10.0.0.0", Private),
        ("10.0.1.255", Private),
        ("10.0.2.0", Reserved),
        ("10.0.2.2", Gateway),
        ("10.0.2.3", Reserved),
        ("10.0.2.15", Reserved),
        ("10.0.2.255", Reserved),
        ("10.0.3.0", Private),
        ("10.255.255.255", Private),
        ("11.0.0.0", Public),
        ("100.63.255.255", Public),
        ("100.64.0.0", Private),
        ("100.100.100.200", Metadata),
        ("100.127.255.255", Private),
        ("100.128.0.0", Public),
        ("126.255.255.255", Public),
        ("127.0.0.0", Loopback),
        ("127.255.255.255", Loopback),
        ("128.0.0.0", Public),
        ("168.63.129.16", Metadata),
        ("169.253.255.255", Public),
        ("169.254.0.0", LinkLocal),
        ("169.254.169.253", LinkLocal),
        ("169.254.169.254", Metadata),
        ("169.254.255.255", LinkLocal),
        ("169.255.0.0", Public),
        ("172.15.255.255", Public),
        ("172.16.0.0", Private),
        ("172.31.255.255", Private),
        ("172.32.0.0", Public),
        ("191.255.255.255", Public),
        ("192.0.0.0", Reserved),
        ("192.0.0.255", Reserved),
        ("192.0.1.0", Public),
        ("192.0.2.1", Public),
        ("192.88.99.1", Reserved),
        ("192.167.255.255", Public),
        ("192.168.0.0", Private),
        ("192.168.7.20", Host),
        ("192.168.255.255", Private),
        ("192.169.0.0", Public),
        ("198.17.255.255", Public),
        ("198.18.0.0", Reserved),
        ("198.19.255.255", Reserved),
        ("198.20.0.0", Public),
        ("198.51.100.1", Public),
        ("203.0.113.1", Public),
        ("203.0.113.7", Host),
        ("223.255.255.255", Public),
        ("224.0.0.0", Multicast),
        ("239.255.255.255", Multicast),
        ("240.0.0.0", Reserved),
        ("255.255.255.255", Reserved),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
}

#[test]
fn ipv6_address_of_special_range_has_its_kind() {
    use AddressKind::{
        Gateway, Host, LinkLocal, Loopback, Metadata, Multicast, Private, Public, Reserved,
    };
    for (text, expected) in [
        ("::", Reserved),
        ("::1", Loopback),
        ("100::1", Reserved),
        ("1fff::1", Reserved),
        ("2000::1", Public),
        ("2001:1::1", Public),
        ("2001:1::4", Reserved),
        ("2001:2::1", Reserved),
        ("2001:3::1", Public),
        ("2001:4:112::1", Public),
        ("2001:10::1", Reserved),
        ("2001:20::1", Public),
        ("2001:1ff::1", Reserved),
        ("2001:200::1", Public),
        ("2001:db8::1", Public),
        ("2001:db8::7", Host),
        ("2606:4700::1111", Public),
        ("3fff::1", Reserved),
        ("3fff:1000::1", Public),
        ("4000::1", Reserved),
        ("5f00::1", Reserved),
        ("fbff::1", Reserved),
        ("fc00::1", Private),
        ("fd00:ec2::254", Metadata),
        ("fd20:ce::254", Metadata),
        ("fd00:5a4d:b0c5:2::2", Gateway),
        ("fd00:5a4d:b0c5:2::3", Reserved),
        ("fd00:5a4d:b0c5:3::3", Private),
        ("fdff::1", Private),
        ("fe00::1", Reserved),
        ("fe80::1", LinkLocal),
        ("febf::1", LinkLocal),
        ("fec0::1", Reserved),
        ("ff02::1", Multicast),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
}

#[test]
fn ipv6_address_with_ipv4_address_has_its_kind_and_is_never_public() {
    use AddressKind::{Gateway, Host, Loopback, Metadata, Private, Reserved};
    for (text, expected) in [
        ("::ffff:127.0.0.1", Loopback),
        ("::ffff:10.0.2.2", Gateway),
        ("::ffff:10.1.2.3", Private),
        ("::ffff:192.168.7.20", Host),
        ("::ffff:169.254.169.254", Metadata),
        ("::ffff:93.184.215.14", Reserved),
        ("::127.0.0.1", Loopback),
        ("::ffff:0:127.0.0.1", Loopback),
        ("64:ff9b::127.0.0.1", Loopback),
        ("64:ff9b::a9fe:a9fe", Metadata),
        ("64:ff9b::5db8:d70e", Reserved),
        ("64:ff9b:1::10.1.2.3", Private),
        ("64:ff9b:1:ffff::93.184.215.14", Reserved),
        ("2002:7f00:1::1", Loopback),
        ("2002:c0a8:714::1", Host),
        ("2002:5db8:d70e::1", Reserved),
        // Teredo: the last 32 bits are the client's address, inverted.
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", Loopback),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Reserved),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
}

#[test]
fn group_contains_its_kinds_only() {
    for (group, kinds) in [
        (Group::Host, &[AddressKind::Host, AddressKind::Gateway][..]),
        (
            Group::Loopback,
            &[AddressKind::Loopback, AddressKind::Gateway],
        ),
        (Group::LinkLocal, &[AddressKind::LinkLocal]),
        (Group::Public, &[AddressKind::Public]),
    ] {
        assert_eq!(group.to_string().parse(), Ok(group));
        for kind in kinds {
            assert!(group.contains(*kind));
        }
        assert!(!group.contains(AddressKind::Metadata));
        assert!(!group.contains(AddressKind::Reserved));
    }
    assert!("PUBLIC".parse::<Group>().is_err());
}
