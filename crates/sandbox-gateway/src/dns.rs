//! DNS messages of the guest (RFC 1035, RFC 6891): one question read, one answer written. What
//! the answer says is decided by `policy_engine`.

use hickory_proto::op::{Edns, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::Transport;

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
mod tests;
