//! TLS connections to the hosts of secrets, which end here and begin anew.
//!
//! The host is connected first and offered what the guest offers (ALPN); what it chooses, the
//! guest gets. So one version of HTTP is spoken on both sides and nothing is translated.

use std::net::SocketAddr;
use std::rc::Rc;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::counted::{Counted, LastActivity};
use super::limits::HANDSHAKE_DEADLINE;
use super::refusal::Refusal;
use super::rewound::Rewound;
use super::route::Route;
use super::session::{Purpose, Session};
use super::upstream::Upstream;
use super::{Shared, serve};
use crate::interception;

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A verified TLS connection to a host.
pub(super) struct TlsUpstream {
    stream: TlsStream<Counted<TcpStream>>,
    address: SocketAddr,
    last: LastActivity,
    pub(super) http2: bool,
}

impl TlsUpstream {
    /// Begins HTTP on it.
    pub(super) async fn begin(self, route: &Route) -> Result<Upstream, Refusal> {
        Upstream::begin(
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

/// Connects to the host and verifies it as a browser would.
pub(super) async fn connect(
    shared: &Shared,
    route: &Route,
    protocols: &[&[u8]],
) -> Result<TlsUpstream, Refusal> {
    let (stream, address) = route.connect().await?;
    verify(shared, route, stream, address, protocols).await
}

async fn verify(
    shared: &Shared,
    route: &Route,
    stream: Counted<TcpStream>,
    address: SocketAddr,
    protocols: &[&[u8]],
) -> Result<TlsUpstream, Refusal> {
    let failed = |error: &str| Refusal::Upstream {
        name: route.name.clone(),
        error: error.into(),
    };
    let (Some(interceptor), Some(name)) =
        (&shared.interceptor, interception::server_name(&route.name))
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

/// Serves a guest's TLS connection whose ClientHello names the host of `route`.
pub(super) async fn serve<S>(
    shared: &Rc<Shared>,
    guest: Rewound<S>,
    route: Route,
    connected: Option<(Counted<TcpStream>, SocketAddr)>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let accepting = accept(shared, guest, &route, connected);
    // Who fails in its handshake got an alert, and a host that fails is answered for over HTTP.
    let Some((guest, http2, upstream)) = accepting.await else {
        return;
    };
    let session = Session::new(
        Rc::clone(shared),
        Purpose::InterceptedTls { route, http2 },
        upstream,
    );
    if http2 {
        serve::http2(guest, session).await;
    } else {
        serve::http1_with_websockets(guest, session).await;
    }
}

type Accepted<S> = (
    tokio_rustls::server::TlsStream<Rewound<S>>,
    bool,
    Option<Upstream>,
);

async fn accept<S>(
    shared: &Rc<Shared>,
    guest: Rewound<S>,
    route: &Route,
    connected: Option<(Counted<TcpStream>, SocketAddr)>,
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
        Some((stream, address)) => verify(shared, route, stream, address, &offered).await,
        None => connect(shared, route, &offered).await,
    };
    let http2 = match &connected {
        Ok(upstream) => upstream.http2,
        Err(_) => offered.first() == Some(&HTTP2),
    };
    // A failure is told and logged at the first request, which tries again.
    let upstream = match connected {
        Ok(upstream) => upstream.begin(route).await.ok(),
        Err(_) => None,
    };
    let protocol = if http2 { HTTP2 } else { HTTP1 };
    let protocol = offered.contains(&protocol).then_some(protocol);
    let interceptor = shared.interceptor.as_ref()?;
    let config = interceptor.server_config(&route.name, protocol).ok()?;
    let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, hello.into_stream(config));
    Some((handshake.await.ok()?.ok()?, http2, upstream))
}
