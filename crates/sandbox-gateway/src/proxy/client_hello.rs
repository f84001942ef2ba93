//! Reads the host name from the ClientHello of a TLS connection.
//!
//! Formats: TLS records and handshake messages from RFC 8446 sections 4 and 5.1, the `server_name`
//! extension from RFC 6066 section 3, `encrypted_client_hello` from RFC 9849. The reader is
//! stricter than servers: it rejects a ClientHello that is ambiguous or hides the name.

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
/// The length of a record header, in bytes: type, version and length.
const RECORD_HEADER: usize = 5;
/// The longest plaintext of a record, in bytes (RFC 8446, section 5.1).
const LONGEST_RECORD: usize = 1 << 14;

/// An error in reading the name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientHelloError {
    /// The first bytes are not a TLS handshake.
    #[error("the connection does not start with a TLS ClientHello")]
    NotTls,
    /// The ClientHello spans several records.
    #[error("the ClientHello is fragmented")]
    Fragmented,
    /// The lengths are inconsistent, or an extension is duplicate.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// The ClientHello has no `server_name` extension.
    #[error("the ClientHello names no host")]
    NoName,
    /// The `server_name` is not a domain name.
    #[error("the ClientHello's host is not a domain name")]
    BadName,
    /// An encrypted ClientHello can contain another name.
    #[error("the ClientHello has an encrypted part that can hide the host")]
    Encrypted,
    /// The client closed the connection or sent too few bytes in time.
    #[error("the client sent no complete ClientHello in time")]
    Incomplete,
}

/// Returns the name of the ClientHello at the start of `bytes`, or `None` if it is incomplete.
///
/// # Errors
///
/// If the bytes cannot become an acceptable ClientHello.
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

/// Returns the content of the first record, or `None` if it is incomplete.
fn record(bytes: &[u8]) -> Result<Option<&[u8]>, ClientHelloError> {
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else {
        // Reject other protocols before they send five bytes.
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
    // Reject a fragmented message without waiting for its rest.
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

/// Returns the name from the extensions of a ClientHello (RFC 8446, section 4.1.2).
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

/// Returns the only entry of a `server_name` extension.
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

/// The remaining bytes of a message.
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

    /// Reads a big-endian number of at most three bytes.
    fn number(&mut self, width: usize) -> Result<usize, ClientHelloError> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Reads a vector with a length field of `width` bytes (RFC 8446, section 3.4).
    fn vector(&mut self, width: usize) -> Result<Reader<'a>, ClientHelloError> {
        let length = self.number(width)?;
        self.take(length).map(Reader)
    }
}

/// Reads a ClientHello from `stream`, for at most ten seconds and 16 KiB.
///
/// Leaves the bytes in `read`, also after an error: they are for the server.
///
/// # Errors
///
/// If the bytes are not an acceptable ClientHello, or too few arrive in time.
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
