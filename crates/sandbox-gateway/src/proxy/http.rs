//! HTTP servers for connections of the guest.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::limits::{HEAD_LIMIT, MOST_HEADERS, MOST_STREAMS, REQUEST_DEADLINE};
use super::request_heads::RequestHeads;
use super::rewind::Rewind;
use super::session::{Session, Upgrade};
use super::upstream::LocalExecutor;
use super::{lingering_close, tunnel};

/// Serves HTTP/1. Returns the upgrade and the guest's stream if CONNECT or a WebSocket takes over
/// the connection.
pub(super) async fn http1<S>(guest: S, session: &Rc<Session>) -> Option<(Upgrade, Rewind<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (guest, smuggling) = RequestHeads::new(guest);
    session.set_smuggling_flag(smuggling);
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
    let guest = Rewind::new(read, guest);
    match session.take_upgrade() {
        Some(upgrade) if served.is_ok() => Some((upgrade, guest)),
        _ => {
            // hyper has answered malformed requests. A failure here concerns only a closed
            // connection.
            let _ = lingering_close::close(guest).await;
            None
        }
    }
}

/// Serves HTTP/1, then the bytes of a WebSocket.
pub(super) async fn http1_with_websockets<S>(guest: S, session: Rc<Session>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if let Some((Upgrade::WebSocket { route, upstream }, guest)) = http1(guest, &session).await {
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
    // hyper reports protocol errors to the guest.
    let _ = serving.await;
}
