//! Answers to the guest's DNS client, and queries to the host's resolver.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::*;
use crate::access_log::{AskedBy, Outcome};

impl Lab {
    async fn ask(&self, text: &str, record_type: RecordType) -> Message {
        let mut message = Message::new(1, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(text).unwrap(), record_type));
        let query = message.to_vec().unwrap();
        let answer = self
            .policy_engine
            .answer_dns(&query, Transport::Udp)
            .await
            .unwrap();
        Message::from_vec(&answer).unwrap()
    }

    /// Returns the answer's code and the data of its records.
    async fn answer(&self, text: &str, record_type: RecordType) -> (ResponseCode, Vec<String>) {
        let answer = self.ask(text, record_type).await;
        let data = answer
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        (answer.metadata.response_code, data)
    }
}

#[tokio::test]
async fn unlisted_names_get_nxdomain_without_upstream_query() {
    let lab = Lab::proxy(&["deny@bad.example.com"], ".example.com\n").await;
    lab.upstream.set("example.com", 300, &["192.0.2.1"]);
    lab.upstream.set("bad.example.com", 300, &["192.0.2.2"]);
    lab.upstream.set("evil.example", 300, &["192.0.2.3"]);
    for (text, record_type) in [
        ("evil.example.", RecordType::A),
        ("c2VjcmV0.evil.example.", RecordType::AAAA),
        ("c2VjcmV0.evil.example.", RecordType::TXT),
        ("c2VjcmV0.evil.example.", RecordType::NULL),
        ("bad.example.com.", RecordType::A),
        ("example.com.evil.example.", RecordType::A),
        ("notexample.com.", RecordType::A),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR),
        ("other.sandbox.internal.", RecordType::A),
        ("com.", RecordType::NS),
    ] {
        let (code, data) = lab.answer(text, record_type).await;
        assert_eq!((code, data.len()), (ResponseCode::NXDomain, 0), "{text}");
    }
    assert!(
        lab.upstream.asked().is_empty(),
        "{:?}",
        lab.upstream.asked()
    );
    let log = lab.log();
    assert_eq!(log.len(), 9, "all but the product's own domain");
    assert!(
        log.iter()
            .all(|entry| entry.verdict == Outcome::Denied && entry.asked == AskedBy::Dns)
    );
    assert_eq!(log[0].name.as_ref().unwrap().as_str(), "evil.example");
    let (code, data) = lab.answer("EXAMPLE.com.", RecordType::A).await;
    assert_eq!(
        (code, data),
        (ResponseCode::NoError, vec!["192.0.2.1".into()])
    );
    assert_eq!(lab.upstream.asked(), ["example.com A"]);
}

/// apt asks for these before it asks for its mirror.
#[tokio::test]
async fn service_query_of_allowed_host_is_denied_without_log_line() {
    let lab = Lab::proxy(&[], "deb.example.com\n").await;
    let quiet = "_http._tcp.deb.example.com.";
    for (text, record_type, logged) in [
        (quiet, RecordType::SRV, 0),
        (quiet, RecordType::TXT, 1),
        ("_http._tcp.evil.example.", RecordType::SRV, 2),
        ("c2VjcmV0._tcp.deb.example.com.", RecordType::SRV, 3),
    ] {
        let (code, _) = lab.answer(text, record_type).await;
        assert_eq!(code, ResponseCode::NXDomain, "{text}");
        assert_eq!(lab.log().len(), logged, "{text}");
    }
    assert!(lab.upstream.asked().is_empty());
}

#[tokio::test]
async fn proxy_mode_withholds_records_with_arbitrary_data() {
    let lab = Lab::proxy(&[], ".example.com\n").await;
    lab.upstream.set("example.com", 300, &["192.0.2.1"]);
    lab.upstream.set_text("example.com", "down with it");
    for record_type in [
        RecordType::TXT,
        RecordType::NULL,
        RecordType::NAPTR,
        RecordType::Unknown(65_280),
    ] {
        let answer = lab.answer("example.com.", record_type).await;
        assert_eq!(answer, (ResponseCode::NoError, vec![]), "{record_type}");
    }
    assert_eq!(lab.log().len(), 4);
    assert!(
        lab.log()
            .iter()
            .all(|entry| entry.reason == Some(Reason::RecordType))
    );
    for record_type in [RecordType::HTTPS, RecordType::SVCB, RecordType::ANY] {
        let answer = lab.answer("example.com.", record_type).await;
        assert_eq!(answer, (ResponseCode::NoError, vec![]), "{record_type}");
    }
    let (code, _) = lab.answer("example.com.", RecordType::AXFR).await;
    assert_eq!(code, ResponseCode::Refused);
    assert!(lab.upstream.asked().is_empty());
    lab.answer("example.com.", RecordType::MX).await;
    assert_eq!(lab.upstream.asked(), ["example.com MX"]);
}

#[tokio::test]
async fn open_mode_forwards_all_types_of_names_without_deny_rule() {
    let lab = Lab::open(
        Preset::Public,
        &["deny@.tracker.example", "deny@half.example:tcp:80"],
    )
    .await;
    lab.upstream.set_text("example.com", "hello");
    lab.upstream.set("half.example", 300, &["192.0.2.1"]);
    let (code, data) = lab.answer("example.com.", RecordType::TXT).await;
    assert_eq!((code, data.len()), (ResponseCode::NoError, 1));
    let (code, _) = lab.answer("a.tracker.example.", RecordType::A).await;
    assert_eq!(code, ResponseCode::NXDomain);
    let (code, data) = lab.answer("half.example.", RecordType::A).await;
    assert_eq!((code, data.len()), (ResponseCode::NoError, 1));
    assert_eq!(lab.upstream.asked(), ["example.com TXT", "half.example A"]);
}

#[tokio::test]
async fn preset_none_forwards_allowed_names_only() {
    let lab = Lab::open(Preset::None, &["allow@a.example:tcp:443"]).await;
    lab.upstream.set("a.example", 300, &["192.0.2.1"]);
    lab.upstream.set("b.example", 300, &["192.0.2.2"]);
    assert_eq!(
        lab.answer("b.example.", RecordType::A).await.0,
        ResponseCode::NXDomain
    );
    let (code, data) = lab.answer("a.example.", RecordType::A).await;
    assert_eq!(
        (code, data),
        (ResponseCode::NoError, vec!["192.0.2.1".into()])
    );
    assert_eq!(lab.upstream.asked(), ["a.example A"]);
}

#[tokio::test]
async fn rebinding_answers_lose_their_addresses() {
    let lab = Lab::open(Preset::Public, &[]).await;
    lab.upstream.set(
        "mixed.example",
        300,
        &["127.0.0.1", "192.0.2.1", "10.1.2.3"],
    );
    lab.upstream
        .set("inside.test", 300, &["10.1.2.3", "::1", "::ffff:127.0.0.1"]);
    lab.upstream.set_alias("alias.example", "inside.test");
    let (_, data) = lab.answer("mixed.example.", RecordType::A).await;
    assert_eq!(data, ["192.0.2.1"]);
    for record_type in [RecordType::A, RecordType::AAAA] {
        let (code, data) = lab.answer("inside.test.", record_type).await;
        assert_eq!((code, data), (ResponseCode::NoError, vec![]));
    }
    let (_, data) = lab.answer("alias.example.", RecordType::A).await;
    assert_eq!(
        data,
        ["inside.test."],
        "the alias stays without its address"
    );
    let dropped = lab.log();
    assert_eq!(dropped.len(), 6);
    assert!(
        dropped
            .iter()
            .all(|entry| entry.reason == Some(Reason::AddressBehindName))
    );
    assert_eq!(dropped[0].address, Some(address("127.0.0.1")));
}

#[tokio::test]
async fn alias_of_allowed_name_keeps_its_addresses() {
    let lab = Lab::proxy(&[], "www.example.com\n").await;
    lab.upstream.set_alias("www.example.com", "edge.cdn.test");
    lab.upstream.set("edge.cdn.test", 20, &["192.0.2.8"]);
    let (_, data) = lab.answer("www.example.com.", RecordType::A).await;
    assert_eq!(data, ["edge.cdn.test.", "192.0.2.8"]);
    assert!(
        lab.policy_engine
            .resolved_to(&name("www.example.com"), address("192.0.2.8"))
    );
    assert!(
        !lab.policy_engine
            .resolved_to(&name("edge.cdn.test"), address("192.0.2.8"))
    );
}

#[tokio::test]
async fn answer_ttl_is_limited_to_ceiling() {
    let lab = Lab::open(Preset::Public, &[]).await;
    lab.upstream.set("long.example", 80_000, &["192.0.2.1"]);
    let answer = lab.ask("long.example.", RecordType::A).await;
    assert_eq!(answer.answers[0].ttl, 3600);
}

#[tokio::test]
async fn host_name_resolves_and_private_reverse_lookups_are_denied() {
    let lab = Lab::open(Preset::Public, &[]).await;
    let (code, data) = lab.answer("host.sandbox.internal.", RecordType::A).await;
    assert_eq!(
        (code, data),
        (ResponseCode::NoError, vec!["10.0.2.2".into()])
    );
    let (_, data) = lab.answer("host.sandbox.internal.", RecordType::AAAA).await;
    assert_eq!(data, [sandbox_spec::guest_network::GATEWAY6.to_string()]);
    for inside in [
        "3.2.1.10.in-addr.arpa.",
        "20.7.168.192.IN-ADDR.ARPA.",
        "10.in-addr.arpa.",
    ] {
        let (code, _) = lab.answer(inside, RecordType::PTR).await;
        assert_eq!(code, ResponseCode::NXDomain);
    }
    assert!(lab.upstream.asked().is_empty());
    lab.answer("1.2.0.192.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(lab.upstream.asked(), ["1.2.0.192.in-addr.arpa PTR"]);
}

#[tokio::test]
async fn unreachable_upstream_gives_servfail() {
    let lab = Lab::open(Preset::Public, &[]).await;
    lab.upstream.set("a.example", 300, &["192.0.2.1"]);
    let (code, _) = lab.answer("absent.example.", RecordType::A).await;
    assert_eq!(code, ResponseCode::NXDomain);
    // No resolver listens at this address.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let gone = socket.local_addr().unwrap();
    drop(socket);
    let config = PolicyEngineConfig {
        policy: policy(Preset::Public, &[]),
        mode: Mode::Open,
        dns: Some(gone),
        ipv6: false,
        log_directory: lab.directory.path().into(),
    };
    let other = Lab {
        policy_engine: PolicyEngine::new(config).unwrap(),
        upstream: Upstream::start().await,
        directory: tempfile::tempdir().unwrap(),
    };
    tokio::time::pause();
    let (code, _) = other.answer("a.example.", RecordType::A).await;
    assert_eq!(code, ResponseCode::ServFail);
    let (code, _) = other.answer("a.example.", RecordType::AAAA).await;
    assert_eq!(
        code,
        ResponseCode::NoError,
        "without IPv6 the resolver gets no query"
    );
}
