//! Queries, answers and invalid messages.

use super::*;
use hickory_proto::op::MessageType;
use hickory_proto::rr::RData;

fn query(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(name).unwrap();
    message.add_query(Query::query(name, record_type));
    message
}

fn question(message: &Message) -> Question {
    match read(&message.to_vec().unwrap()) {
        Received::Question(question) => *question,
        other => panic!("{other:?}"),
    }
}

fn refused(message: &Message) -> Message {
    match read(&message.to_vec().unwrap()) {
        Received::Refused(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn addresses(count: u8) -> Vec<Record> {
    (0..count)
        .map(|last| {
            let data = RData::A(std::net::Ipv4Addr::new(192, 0, 2, last).into());
            Record::from_rdata(Name::from_ascii("a.example.").unwrap(), 60, data)
        })
        .collect()
}

#[test]
fn question_has_canonical_name_and_answer_has_spelled_name() {
    let asked = question(&query("WwW.ExAmPlE.cOm.", RecordType::AAAA));
    assert_eq!(asked.name.as_str(), "www.example.com");
    assert_eq!(asked.record_type, RecordType::AAAA);
    let bytes = asked.answer(ResponseCode::NoError, addresses(1), Transport::Udp);
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!(answer.metadata.id, 77);
    assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
    assert_eq!(answer.queries[0].name().to_string(), "WwW.ExAmPlE.cOm.");
    assert_eq!(answer.answers.len(), 1);
    assert!(answer.edns.is_none());
}

#[test]
fn large_answers_are_truncated_over_udp_only() {
    let mut message = query("a.example.", RecordType::A);
    let plain = question(&message);
    message.set_edns(edns(ResponseCode::NoError));
    let extended = question(&message);
    let read = |bytes: Vec<u8>, most: usize| {
        assert!(bytes.len() <= most);
        Message::from_vec(&bytes).unwrap()
    };
    let code = ResponseCode::NoError;
    let cut = read(plain.answer(code, addresses(40), Transport::Udp), 512);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = read(extended.answer(code, addresses(40), Transport::Udp), 1232);
    assert!(!whole.metadata.truncation && whole.answers.len() == 40);
    assert_eq!(whole.edns.unwrap().max_payload(), 1232);
    let cut = read(extended.answer(code, addresses(200), Transport::Udp), 1232);
    assert!(cut.metadata.truncation);
    let whole = read(plain.answer(code, addresses(200), Transport::Tcp), 65_535);
    assert_eq!(whole.answers.len(), 200);
}

#[test]
fn unsupported_queries_get_matching_error_codes() {
    let mut update = query("a.example.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(
        refused(&update).metadata.response_code,
        ResponseCode::NotImp
    );
    let mut two = query("a.example.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(refused(&two).metadata.response_code, ResponseCode::FormErr);
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(
        refused(&chaos).metadata.response_code,
        ResponseCode::Refused
    );
    let root = query(".", RecordType::NS);
    assert_eq!(refused(&root).metadata.response_code, ResponseCode::Refused);
    let mut newer = query("a.example.", RecordType::A);
    newer.set_edns(edns(ResponseCode::NoError).set_version(1).clone());
    let answer = refused(&newer);
    let edns = answer.edns.as_ref().unwrap();
    assert_eq!((edns.rcode_high(), edns.version()), (1, 0));
    let mut response = query("a.example.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    let bytes = response.to_vec().unwrap();
    assert!(matches!(read(&bytes), Received::Noise));
}

#[test]
fn invalid_host_names_get_nxdomain() {
    for labels in [
        &[&b"a b"[..], b"example"][..],
        &[b"a.b", b"example"],
        &[b"\xff\xfe", b"example"],
        &[b"nul\0", b"example"],
        &[b"127", b"0", b"0", b"1"],
        &[b"xn--a", b"example"],
    ] {
        let mut message = query("x.example.", RecordType::A);
        let mut name = Name::from_labels(labels.iter().copied()).unwrap();
        name.set_fqdn(true);
        message.queries[0].set_name(name);
        let Received::NoName(bytes) = read(&message.to_vec().unwrap()) else {
            panic!("{labels:?}");
        };
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    }
}

#[test]
fn damaged_queries_never_panic() {
    let valid = query("www.example.com.", RecordType::A).to_vec().unwrap();
    for end in 0..valid.len() {
        let short = &valid[..end];
        match read(short) {
            Received::Noise => assert!(end < HEADER),
            Received::Refused(bytes) => assert_eq!(bytes[3] & 0xf, 1, "FORMERR"),
            other => panic!("{other:?}"),
        }
    }
    for position in 0..valid.len() {
        for value in [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff] {
            let mut changed = valid.clone();
            changed[position] = value;
            read(&changed);
        }
    }
    // A compression pointer to itself, and a query that is too long.
    let mut looped = valid[..HEADER].to_vec();
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    assert!(matches!(read(&looped), Received::Refused(_)));
    let mut long = valid;
    long.resize(LONGEST_QUESTION + 1, 0);
    assert!(matches!(read(&long), Received::Refused(_)));
}
