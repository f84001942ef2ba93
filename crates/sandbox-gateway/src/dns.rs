//! Reads the guest's DNS queries and writes the answers (RFC 1035, RFC 6891). `policy_engine`
//! decides the content of the answers.

use hickory_proto::op::{Edns, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::Transport;

/// The longest query that is read, in bytes. A query with all options that programs send has a
/// tenth of it.
const LONGEST_QUESTION: usize = 4096;
/// The largest answer over UDP, in bytes, even if the guest accepts more (DNS flag day 2020).
const LARGEST_DATAGRAM: u16 = 1232;
/// The largest message over TCP, in bytes (RFC 1035, section 4.2.2).
const LARGEST_MESSAGE: usize = u16::MAX as usize;
/// The length of a message header, in bytes (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// A valid question.
#[derive(Debug)]
pub struct Question {
    request: Metadata,
    query: Query,
    /// The largest UDP payload that the guest accepts, from its EDNS record.
    payload: Option<u16>,
    /// The name in its canonical form.
    pub name: DomainName,
    /// The record type.
    pub record_type: RecordType,
}

/// A parsed message of the guest.
#[derive(Debug)]
pub enum Received {
    /// A valid question.
    Question(Box<Question>),
    /// A question for a name that no host can have, with its NXDOMAIN answer.
    NoName(Vec<u8>),
    /// An unsupported or malformed query, with its error answer.
    Refused(Vec<u8>),
    /// A message that gets no answer.
    Noise,
}

/// Parses a message. Allocates at most a few times its length.
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

/// Returns the identifier, and whether the message is a response.
fn header(bytes: &[u8]) -> Option<(u16, bool)> {
    match bytes {
        [high, low, flags, ..] if bytes.len() >= HEADER => {
            Some((u16::from_be_bytes([*high, *low]), flags & 0x80 != 0))
        }
        _ => None,
    }
}

/// Returns the domain name. Names with other bytes or with a dot in a label have none: the gateway
/// does not resolve them.
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
    /// Returns the answer with these records. Truncates it if it is too large for the transport.
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

    /// Returns the name in the guest's spelling. Some programs compare it.
    pub fn spelled_name(&self) -> &Name {
        self.query.name()
    }
}

/// Encodes the message. One that is too large loses its records and gets the TC bit.
fn encode(message: &Message, most: usize) -> Vec<u8> {
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= most => bytes,
        _ => message.truncate().to_vec().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
