//! The name that a TLS client asks for, read from the first bytes of its connection.
//!
//! Formats: TLS records and handshake messages from RFC 8446 sections 4 and 5.1, the `server_name`
//! extension from RFC 6066 section 3, `encrypted_client_hello` from RFC 9849. The reader is
//! stricter than any server: what could be read in two ways, or hides the name, is refused.

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::limits::{CLIENT_HELLO_DEADLINE, CLIENT_HELLO_LIMIT};
use sandbox_spec::domain::DomainName;

/// Record type `handshake` (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// Handshake type `client_hello` (RFC 8446, section 4).
const CLIENT_HELLO: u8 = 1;
/// Extension `server_name` (RFC 6066, section 3).
const SERVER_NAME: u16 = 0;
/// Extension `encrypted_client_hello` (RFC 9849, section 5).
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Name type `host_name` (RFC 6066, section 3).
const HOST_NAME: u8 = 0;
/// Type, version and length of a record.
const RECORD_HEADER: usize = 5;
/// The longest plaintext of a record (RFC 8446, section 5.1).
const LONGEST_RECORD: usize = 1 << 14;

/// Why no name could be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientHelloError {
    /// The first bytes are no TLS handshake.
    #[error("the connection does not begin with a TLS ClientHello")]
    NotTls,
    /// The ClientHello is spread over several records.
    #[error("the ClientHello is fragmented")]
    Fragmented,
    /// Lengths do not fit together, or something appears twice.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// No `server_name` extension.
    #[error("the ClientHello names no host")]
    NoName,
    /// The `server_name` is an address or no domain name.
    #[error("the ClientHello's host is not a domain name")]
    BadName,
    /// The real name may be another, encrypted one.
    #[error("the ClientHello has an encrypted part that can hide the host")]
    Encrypted,
    /// The client ended or said nothing for too long.
    #[error("the client sent no complete ClientHello in time")]
    Incomplete,
}

/// The name in a complete ClientHello at the start of `bytes`; `None`: more bytes are needed.
///
/// # Errors
///
/// When no number of further bytes could make it an acceptable ClientHello.
pub fn server_name(bytes: &[u8]) -> Result<Option<DomainName>, ClientHelloError> {
    let Some(record) = record(bytes)? else {
        return Ok(None);
    };
    let mut message = Reader(record);
    if message.byte()? != CLIENT_HELLO {
        return Err(ClientHelloError::NotTls);
    }
    let length = message.number(3)?;
    if length > message.0.len() {
        return Err(ClientHelloError::Fragmented);
    }
    if length < message.0.len() {
        return Err(ClientHelloError::Malformed);
    }
    name_in_hello(message).map(Some)
}

/// The first record's contents, once they are complete.
fn record(bytes: &[u8]) -> Result<Option<&[u8]>, ClientHelloError> {
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else {
        // Whoever speaks another protocol need not send five bytes first.
        return match bytes {
            [] | [HANDSHAKE] | [HANDSHAKE, 3, ..] => Ok(None),
            _ => Err(ClientHelloError::NotTls),
        };
    };
    let mut header = Reader(header);
    if header.byte()? != HANDSHAKE || header.byte()? != 3 {
        return Err(ClientHelloError::NotTls);
    }
    header.byte()?;
    let length = header.number(2)?;
    if length == 0 || length > LONGEST_RECORD {
        return Err(ClientHelloError::Malformed);
    }
    if length < 4 {
        return Err(ClientHelloError::Fragmented);
    }
    // Of a fragmented message the rest need not be waited for.
    if let Some(header) = rest.get(..4) {
        let mut header = Reader(header);
        if header.byte()? != CLIENT_HELLO {
            return Err(ClientHelloError::NotTls);
        }
        if header.number(3)? + 4 > length {
            return Err(ClientHelloError::Fragmented);
        }
    }
    Ok(rest.get(..length))
}

/// Walks a ClientHello (RFC 8446, section 4.1.2) to its extensions and through all of them.
fn name_in_hello(mut hello: Reader<'_>) -> Result<DomainName, ClientHelloError> {
    hello.take(2 + 32)?;
    hello.vector(1)?;
    hello.vector(2)?;
    hello.vector(1)?;
    if hello.0.is_empty() {
        return Err(ClientHelloError::NoName);
    }
    let mut extensions = hello.vector(2)?;
    if !hello.0.is_empty() {
        return Err(ClientHelloError::Malformed);
    }
    let mut name = None;
    let mut encrypted = false;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let contents = extensions.vector(2)?;
        if kind == usize::from(SERVER_NAME) {
            if name.replace(host_name(contents)?).is_some() {
                return Err(ClientHelloError::Malformed);
            }
        } else if kind == usize::from(ENCRYPTED_CLIENT_HELLO) {
            encrypted = true;
        }
    }
    match name {
        _ if encrypted => Err(ClientHelloError::Encrypted),
        Some(name) => domain(name),
        None => Err(ClientHelloError::NoName),
    }
}

/// The one entry of a `server_name` extension.
fn host_name(mut extension: Reader<'_>) -> Result<&[u8], ClientHelloError> {
    let mut list = extension.vector(2)?;
    let kind = list.byte()?;
    let name = list.vector(2)?;
    if kind != HOST_NAME || !list.0.is_empty() || !extension.0.is_empty() {
        return Err(ClientHelloError::Malformed);
    }
    Ok(name.0)
}

fn domain(name: &[u8]) -> Result<DomainName, ClientHelloError> {
    let name = std::str::from_utf8(name).map_err(|_| ClientHelloError::BadName)?;
    if !name.is_ascii() {
        return Err(ClientHelloError::BadName);
    }
    name.parse().map_err(|_| ClientHelloError::BadName)
}

/// Bytes yet to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ClientHelloError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ClientHelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ClientHelloError> {
        let (byte, rest) = self.0.split_first().ok_or(ClientHelloError::Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A big-endian number of at most three bytes.
    fn number(&mut self, width: usize) -> Result<usize, ClientHelloError> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What follows a length of `width` bytes.
    fn vector(&mut self, width: usize) -> Result<Reader<'a>, ClientHelloError> {
        let length = self.number(width)?;
        self.take(length).map(Reader)
    }
}

/// Reads from `stream` until a ClientHello is complete, and no longer than ten seconds or 16 KiB.
///
/// The bytes read are left in `read`, whatever the outcome: they are the server's.
///
/// # Errors
///
/// When the bytes are no acceptable ClientHello, or too few arrive.
pub(super) async fn read_server_name<S>(
    stream: &mut S,
    read: &mut Vec<u8>,
) -> Result<DomainName, ClientHelloError>
where
    S: AsyncRead + Unpin,
{
    let reading = async {
        loop {
            if let Some(name) = server_name(read)? {
                return Ok(name);
            }
            if read.len() >= CLIENT_HELLO_LIMIT {
                return Err(ClientHelloError::Malformed);
            }
            let room = (CLIENT_HELLO_LIMIT - read.len()) as u64;
            match (&mut *stream).take(room).read_buf(read).await {
                Ok(0) | Err(_) => return Err(ClientHelloError::Incomplete),
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(CLIENT_HELLO_DEADLINE, reading)
        .await
        .unwrap_or(Err(ClientHelloError::Incomplete))
}

#[cfg(test)]
mod tests;
