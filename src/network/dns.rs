//! DNS messages of the guest (RFC 1035, RFC 6891): one question read, one answer written. What
//! the answer says is decided by `gate`.

use hickory_proto::op::{Edns, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use super::domain::DomainName;
use super::policy::Transport;

/// The longest message that is read as a question, in bytes; a question with every option that
/// programs send is a tenth of it.
const LONGEST_QUESTION: usize = 4096;
/// The most that is sent in one datagram, whatever the guest can take (the DNS flag day of 2020).
const LARGEST_DATAGRAM: u16 = 1232;
/// What fits into a message over TCP.
const LARGEST_MESSAGE: usize = u16::MAX as usize;
/// The length of a message's header.
const HEADER: usize = 12;

/// A question that can be answered.
#[derive(Debug)]
pub struct Question {
    request: Metadata,
    query: Query,
    /// What the guest can take in one datagram, if it says.
    payload: Option<u16>,
    /// The name.
    pub name: DomainName,
    /// The type of records.
    pub record_type: RecordType,
}

/// What a message of the guest turned out to be.
#[derive(Debug)]
pub enum Received {
    /// A question.
    Question(Box<Question>),
    /// A question for what can be no host's name; the answer is ready.
    NoName(Vec<u8>),
    /// Something else, with the answer that says so.
    Refused(Vec<u8>),
    /// Nothing that an answer is due to.
    Noise,
}

/// Reads a message. Never fails and never allocates more than a few times its length.
pub fn read(bytes: &[u8]) -> Received {
    let Some((id, is_response)) = header(bytes) else {
        return Received::Noise;
    };
    if is_response {
        return Received::Noise;
    }
    let Some(message) = (bytes.len() <= LONGEST_QUESTION)
        .then(|| Message::from_vec(bytes).ok())
        .flatten()
    else {
        let malformed = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
        return Received::Refused(encode(&malformed, LARGEST_MESSAGE));
    };
    let refused = |code| Received::Refused(refusal(&message, code));
    if message.metadata.op_code != OpCode::Query {
        return refused(ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else {
        return refused(ResponseCode::FormErr);
    };
    if message.version() > 0 {
        return refused(ResponseCode::BADVERS);
    }
    if query.query_class() != DNSClass::IN || query.name().is_root() {
        return refused(ResponseCode::Refused);
    }
    match domain_name(query.name()) {
        None => Received::NoName(refusal(&message, ResponseCode::NXDomain)),
        Some(name) => Received::Question(Box::new(Question {
            request: message.metadata,
            query: query.clone(),
            payload: message.edns.as_ref().map(Edns::max_payload),
            name,
            record_type: query.query_type(),
        })),
    }
}

/// The identifier, and whether it is an answer.
fn header(bytes: &[u8]) -> Option<(u16, bool)> {
    match bytes {
        [high, low, flags, ..] if bytes.len() >= HEADER => {
            Some((u16::from_be_bytes([*high, *low]), flags & 0x80 != 0))
        }
        _ => None,
    }
}

/// The name as hosts have them; others (bytes that are no letters, a label with a dot in it) are
/// not asked for.
fn domain_name(name: &Name) -> Option<DomainName> {
    let mut text = String::new();
    for label in name.iter() {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !label.iter().all(plain) {
            return None;
        }
        text.push_str(std::str::from_utf8(label).ok()?);
        text.push('.');
    }
    text.parse().ok()
}

fn refusal(request: &Message, code: ResponseCode) -> Vec<u8> {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata = Metadata::response_from_request(&request.metadata);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(request.queries.iter().take(1).cloned());
    if request.edns.is_some() {
        message.set_edns(edns(code));
    }
    encode(&message, LARGEST_DATAGRAM.into())
}

fn edns(code: ResponseCode) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST_DATAGRAM);
    edns.set_rcode_high(code.high());
    edns
}

impl Question {
    /// The answer with these records, cut short where it does not fit the way it goes.
    pub fn answer(&self, code: ResponseCode, records: Vec<Record>, over: Transport) -> Vec<u8> {
        let mut message = Message::response(self.request.id, self.request.op_code);
        message.metadata = Metadata::response_from_request(&self.request);
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        message.insert_answers(records);
        if self.payload.is_some() {
            message.set_edns(edns(code));
        }
        let most = match over {
            Transport::Tcp => LARGEST_MESSAGE,
            _ => self
                .payload
                .unwrap_or(512)
                .clamp(512, LARGEST_DATAGRAM)
                .into(),
        };
        encode(&message, most)
    }

    /// The question's name with the guest's spelling: some programs compare it.
    pub fn spelled_name(&self) -> &Name {
        self.query.name()
    }
}

/// The message, or as much of it as fits with the bit that says so.
fn encode(message: &Message, most: usize) -> Vec<u8> {
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= most => bytes,
        _ => message.truncate().to_vec().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
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
    fn a_name_is_read_in_its_canonical_form_and_answered_as_it_was_spelled() {
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
    fn large_answers_are_cut_for_datagrams_only() {
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
    fn what_is_no_question_is_refused_in_its_own_terms() {
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
    fn names_that_are_no_hosts_do_not_exist() {
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
    fn any_bytes_are_survived() {
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
        // A compression pointer to itself, and more than a question may have.
        let mut looped = valid[..HEADER].to_vec();
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        assert!(matches!(read(&looped), Received::Refused(_)));
        let mut long = valid;
        long.resize(LONGEST_QUESTION + 1, 0);
        assert!(matches!(read(&long), Received::Refused(_)));
    }
}
