//! What the guest's DNS client gets to hear, and what the host's resolver is asked.

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

    /// The answer's code and its records' data.
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
async fn names_off_the_list_do_not_exist_and_are_asked_of_nobody() {
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
async fn services_of_allowed_hosts_do_not_exist_and_are_no_news() {
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
async fn in_proxy_mode_records_that_carry_anything_are_withheld() {
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
async fn an_open_network_asks_for_anything_but_what_rules_deny() {
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
async fn without_a_network_only_allowed_names_are_asked_for() {
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
async fn answers_that_rebind_lose_their_addresses() {
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
    assert_eq!(data, ["inside.test."], "the alias stays, its address goes");
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
async fn aliases_of_an_allowed_name_lead_to_its_addresses() {
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
async fn times_to_live_are_cut_at_what_is_remembered() {
    let lab = Lab::open(Preset::Public, &[]).await;
    lab.upstream.set("long.example", 80_000, &["192.0.2.1"]);
    let answer = lab.ask("long.example.", RecordType::A).await;
    assert_eq!(answer.answers[0].ttl, 3600);
}

#[tokio::test]
async fn the_host_has_a_name_and_reverse_lookups_stay_outside() {
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
async fn an_upstream_that_is_gone_is_a_failure_and_no_absence() {
    let lab = Lab::open(Preset::Public, &[]).await;
    lab.upstream.set("a.example", 300, &["192.0.2.1"]);
    let (code, _) = lab.answer("absent.example.", RecordType::A).await;
    assert_eq!(code, ResponseCode::NXDomain);
    // Nothing listens where the second policy engine asks.
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
    assert_eq!(code, ResponseCode::NoError, "no IPv6 is no failure");
}
