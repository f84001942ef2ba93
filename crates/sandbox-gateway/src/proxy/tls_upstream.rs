//! Verified TLS connections to the hosts of secrets.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::context::ProxyContext;
use super::limits::HANDSHAKE_DEADLINE;
use super::metered_stream::{LastActivity, MeteredStream};
use super::refusal::Refusal;
use super::route::Route;
use super::upstream::Upstream;
use crate::interception;

/// HTTP/2 in ALPN (RFC 9113, section 3.2).
pub(super) const HTTP2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN (RFC 7301, section 6).
pub(super) const HTTP1: &[u8] = b"http/1.1";

/// A verified TLS connection to a host.
pub(super) struct TlsUpstream {
    stream: TlsStream<MeteredStream<TcpStream>>,
    address: SocketAddr,
    last: LastActivity,
    pub(super) http2: bool,
}

impl TlsUpstream {
    /// Starts HTTP on the connection, in the version that ALPN chose.
    pub(super) async fn start_http(self, route: &Route) -> Result<Upstream, Refusal> {
        Upstream::start(
            route.clone(),
            self.http2,
            self.address,
            self.stream,
            self.last,
        )
        .await
        .map_err(|error| route.upstream_failed(&error))
    }
}

/// Connects to the host and verifies its certificate.
///
/// # Errors
///
/// The refusal of [`Route::connect`], or [`Refusal::Upstream`] if the handshake fails.
pub(super) async fn connect(
    context: &ProxyContext,
    route: &Route,
    protocols: &[&[u8]],
) -> Result<TlsUpstream, Refusal> {
    let (stream, address) = route.connect().await?;
    verify(context, route, stream, address, protocols).await
}

/// Verifies the host's certificate on an open connection, and offers `protocols` (ALPN).
///
/// # Errors
///
/// [`Refusal::Upstream`] if the handshake fails.
pub(super) async fn verify(
    context: &ProxyContext,
    route: &Route,
    stream: MeteredStream<TcpStream>,
    address: SocketAddr,
    protocols: &[&[u8]],
) -> Result<TlsUpstream, Refusal> {
    let failed = |error: &str| Refusal::Upstream {
        name: route.name.clone(),
        error: error.into(),
    };
    let (Some(interceptor), Some(name)) =
        (&context.interceptor, interception::server_name(&route.name))
    else {
        return Err(failed("its name cannot be verified"));
    };
    let last = stream.last_activity();
    let connector = TlsConnector::from(interceptor.client_config(protocols));
    let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, connector.connect(name, stream));
    let stream = handshake
        .await
        .map_err(|_| failed("its TLS handshake did not end in time"))?
        .map_err(|error| route.upstream_failed(&error))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    Ok(TlsUpstream {
        stream,
        address,
        last,
        http2,
    })
}
