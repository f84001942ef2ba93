//! HTTP on a connection of the guest, and what may follow it on the same connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::client_hello::{self, ClientHelloError};
use super::limits::{HEAD_LIMIT, MOST_HEADERS, MOST_STREAMS, REQUEST_DEADLINE};
use super::refusal::Refusal;
use super::request_heads::RequestHeads;
use super::rewound::Rewound;
use super::route::Route;
use super::session::{Next, Session};
use super::upstream::LocalExecutor;
use super::{Shared, alert, interception, tunnel};
use sandbox_spec::domain::DomainName;

/// Serves HTTP/1 until the connection ends or becomes something else.
async fn http1<S>(guest: S, session: &Rc<Session>) -> Option<(Next, Rewound<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (guest, smuggling) = RequestHeads::new(guest);
    session.watch_for_smuggling(smuggling);
    let answering = Rc::clone(session);
    let service = service_fn(move |request| {
        let session = Rc::clone(&answering);
        Box::pin(async move { Ok::<_, Infallible>(session.answer(request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_DEADLINE)
        .half_close(true)
        .preserve_header_case(true)
        .max_headers(MOST_HEADERS)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(guest), service);
    let served = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let parts = connection.into_parts();
    let (guest, pending) = parts.io.into_inner().into_parts();
    let read = [parts.read_buf, pending].concat();
    let guest = Rewound::new(read, guest);
    match session.take_next() {
        Some(next) if served.is_ok() => Some((next, guest)),
        _ => {
            // Whatever the guest did wrong, hyper has answered; one that is gone need not know.
            let _ = alert::close(guest).await;
            None
        }
    }
}

/// Serves HTTP/1 and, after it, the tunnel of a WebSocket.
pub(super) async fn http1_with_websockets<S>(guest: S, session: Rc<Session>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if let Some((Next::Switched { route, upstream }, guest)) = http1(guest, &session).await {
        tunnel::carry(guest, upstream.stream, upstream.last, route.until_denied()).await;
    }
}

/// Serves HTTP/2.
pub(super) async fn http2<S>(guest: S, session: Rc<Session>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let session = Rc::clone(&session);
        async move { Ok::<_, Infallible>(session.answer(request).await) }
    });
    let serving = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(u32::try_from(HEAD_LIMIT).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(guest), service);
    // Whatever the guest did wrong, hyper has told it.
    let _ = serving.await;
}

/// Serves the explicit proxy: HTTP/1, then what CONNECT or a WebSocket opened.
pub(super) async fn proxy<S>(shared: &Rc<Shared>, guest: S, session: Rc<Session>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match http1(guest, &session).await {
        Some((Next::Switched { route, upstream }, guest)) => {
            tunnel::carry(guest, upstream.stream, upstream.last, route.until_denied()).await;
        }
        Some((
            Next::Connect {
                route,
                upstream,
                address,
            },
            mut guest,
        )) => {
            let mut first = Vec::new();
            let name = client_hello::read_server_name(&mut guest, &mut first).await;
            let guest = Rewound::new(first, guest);
            match same_name(&route, name) {
                Err(refusal) => refuse_tls(&route, guest, &refusal).await,
                Ok(()) if shared.intercepts_tls(&route.name) => {
                    interception::serve(shared, guest, route, Some((*upstream, address))).await;
                }
                Ok(()) => {
                    let last = upstream.last_activity();
                    tunnel::carry(guest, upstream, last, route.until_denied()).await;
                }
            }
        }
        None => {}
    }
}

/// Whether the ClientHello in a tunnel is for the tunnel's host.
fn same_name(route: &Route, name: Result<DomainName, ClientHelloError>) -> Result<(), Refusal> {
    let found = name.map_err(Refusal::Hello)?;
    if found == route.name {
        return Ok(());
    }
    Err(Refusal::OtherName { found })
}

/// Logs why a TLS connection is refused, and ends it.
pub(super) async fn refuse_tls<S>(route: &Route, guest: S, refusal: &Refusal)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    route.log_denied(refusal);
    if let Some(alert) = refusal.alert() {
        alert::refuse(guest, alert).await;
    }
}
