//! Every bound of the proxy.

use std::time::Duration;

/// The most that is read of a connection before its ClientHello is complete: a full record.
pub(super) const CLIENT_HELLO_LIMIT: usize = 5 + (1 << 14);
/// How long a client may take for its ClientHello.
pub(super) const CLIENT_HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// The longest head of a request or response, and the most that is buffered of it.
pub(super) const HEAD_LIMIT: usize = 64 * 1024;
/// Header fields of one head.
pub(super) const MOST_HEADERS: usize = 128;
/// How long a kept connection may wait for its next request.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(300);
/// How long a TLS handshake may take, on either side.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(15);
/// How long a tunnel may carry nothing. Generous: editors and agents keep silent ones for hours.
pub(super) const TUNNEL_IDLE: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a client that was refused may take to read why.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// Buffer of a tunnel in each direction, in bytes.
pub(super) const TUNNEL_BUFFER: usize = 32 * 1024;
/// Requests that one HTTP/2 connection may have open at once.
pub(super) const MOST_STREAMS: u32 = 128;
/// How much of what such a client still sends is read and thrown away.
pub(super) const LINGER_BYTES: u64 = 64 * 1024;
/// How long connecting to an address may take.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// How long a kept connection may take to become ready for another request.
pub(super) const READY_DEADLINE: Duration = Duration::from_secs(2);
