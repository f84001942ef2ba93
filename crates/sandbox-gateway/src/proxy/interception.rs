//! Intercepted TLS connections: those to the hosts of secrets.
//!
//! The gateway connects the host first and offers the guest's protocols (ALPN). The guest gets the
//! host's choice. So both sides speak one version of HTTP, and nothing is translated.

use std::net::SocketAddr;
use std::rc::Rc;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use super::context::ProxyContext;
use super::http;
use super::limits::HANDSHAKE_DEADLINE;
use super::metered_stream::MeteredStream;
use super::rewind::Rewind;
use super::route::Route;
use super::session::{ConnectionKind, Session};
use super::tls_upstream::{self, HTTP1, HTTP2};
use super::upstream::Upstream;

/// Serves a guest's TLS connection whose ClientHello names the host of `route`.
pub(super) async fn serve<S>(
    context: &Rc<ProxyContext>,
    guest: Rewind<S>,
    route: Route,
    connected: Option<(MeteredStream<TcpStream>, SocketAddr)>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let accepting = accept(context, guest, &route, connected);
    // rustls has sent the guest an alert. A failure of the host becomes an HTTP response later.
    let Some((guest, http2, upstream)) = accepting.await else {
        return;
    };
    let session = Session::new(
        Rc::clone(context),
        ConnectionKind::InterceptedTls { route, http2 },
        upstream,
    );
    if http2 {
        http::http2(guest, session).await;
    } else {
        http::http1_with_websockets(guest, session).await;
    }
}

type Accepted<S> = (
    tokio_rustls::server::TlsStream<Rewind<S>>,
    bool,
    Option<Upstream>,
);

async fn accept<S>(
    context: &Rc<ProxyContext>,
    guest: Rewind<S>,
    route: &Route,
    connected: Option<(MeteredStream<TcpStream>, SocketAddr)>,
) -> Option<Accepted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let acceptor = LazyConfigAcceptor::new(Acceptor::default(), guest);
    let hello = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor)
        .await
        .ok()?
        .ok()?;
    let offered: Vec<&[u8]> = hello
        .client_hello()
        .alpn()
        .into_iter()
        .flatten()
        .filter_map(|protocol| [HTTP2, HTTP1].into_iter().find(|known| *known == protocol))
        .collect();
    let connected = match connected {
        Some((stream, address)) => {
            tls_upstream::verify(context, route, stream, address, &offered).await
        }
        None => tls_upstream::connect(context, route, &offered).await,
    };
    let http2 = match &connected {
        Ok(upstream) => upstream.http2,
        Err(_) => offered.first() == Some(&HTTP2),
    };
    // The first request connects again. It reports and logs a failure.
    let upstream = match connected {
        Ok(upstream) => upstream.start_http(route).await.ok(),
        Err(_) => None,
    };
    let protocol = if http2 { HTTP2 } else { HTTP1 };
    let protocol = offered.contains(&protocol).then_some(protocol);
    let interceptor = context.interceptor.as_ref()?;
    let config = interceptor.server_config(&route.name, protocol).ok()?;
    let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, hello.into_stream(config));
    Some((handshake.await.ok()?.ok()?, http2, upstream))
}
