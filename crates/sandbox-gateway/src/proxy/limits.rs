//! The limits of the proxy.

use std::time::Duration;

/// The most bytes that are read until the ClientHello is complete: a full record.
pub(super) const CLIENT_HELLO_LIMIT: usize = 5 + (1 << 14);
/// The time for a client to send its ClientHello.
pub(super) const CLIENT_HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// The longest head of a request or response, in bytes.
pub(super) const HEAD_LIMIT: usize = 64 * 1024;
/// The most header fields in a head.
pub(super) const MOST_HEADERS: usize = 128;
/// The time for which a kept-alive connection waits for its next request.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(300);
/// The time for a TLS handshake, on either side.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(15);
/// The time after which an idle tunnel is closed. Editors and agents keep idle ones for hours.
pub(super) const TUNNEL_IDLE: Duration = Duration::from_secs(4 * 60 * 60);
/// The time for a denied client to read the response.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// The buffer of a tunnel in each direction, in bytes.
pub(super) const TUNNEL_BUFFER: usize = 32 * 1024;
/// The most concurrent requests on an HTTP/2 connection.
pub(super) const MOST_STREAMS: u32 = 128;
/// The most bytes that are discarded from a denied client.
pub(super) const LINGER_BYTES: u64 = 64 * 1024;
/// The time for a connection to an address.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// The time for a kept-alive connection to become ready for another request.
pub(super) const READY_DEADLINE: Duration = Duration::from_secs(2);
