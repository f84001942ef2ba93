//! HTTP connections to hosts.

use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::Executor;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::limits::{HEAD_LIMIT, MOST_HEADERS, MOST_STREAMS, READY_DEADLINE};
use super::metered_stream::LastActivity;
use super::rewind::Rewind;
use super::route::Route;
use sandbox_spec::domain::DomainName;

/// An open connection, with its host's name, port and address.
pub(super) struct Upstream {
    pub(super) name: DomainName,
    pub(super) port: u16,
    pub(super) address: SocketAddr,
    sender: Sender,
    task: AbortHandle,
}

enum Sender {
    Http1 {
        sender: http1::SendRequest<Incoming>,
        upgraded: Option<oneshot::Receiver<UpgradedStream>>,
    },
    Http2(http2::SendRequest<Incoming>),
}

/// A connection after `101 Switching Protocols`.
pub(super) struct UpgradedStream {
    pub(super) stream: Box<dyn Stream>,
    pub(super) last: LastActivity,
}

/// A byte stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Runs hyper's tasks on the gateway's thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

impl Upstream {
    /// Starts HTTP/2 or HTTP/1.1 on a connection.
    ///
    /// The connection ends with the returned value, or when the policy denies `route`.
    pub(super) async fn start<S>(
        route: Route,
        http2: bool,
        address: SocketAddr,
        stream: S,
        last: LastActivity,
    ) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (name, port) = (route.name.clone(), route.port);
        let (sender, task) = if http2 {
            start_http2(route, stream).await?
        } else {
            start_http1(route, stream, last).await?
        };
        Ok(Self {
            name,
            port,
            address,
            sender,
            task,
        })
    }

    /// Returns whether the connection accepts another request.
    pub(super) async fn is_usable(&mut self) -> bool {
        let ready = async {
            match &mut self.sender {
                Sender::Http1 { sender, .. } => sender.ready().await.is_ok(),
                Sender::Http2(sender) => sender.ready().await.is_ok(),
            }
        };
        tokio::time::timeout(READY_DEADLINE, ready)
            .await
            .unwrap_or(false)
    }

    /// Sends a request. The future does not borrow the connection.
    pub(super) fn send(
        &mut self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Incoming>>>> + use<>
    {
        let sending: std::pin::Pin<Box<dyn Future<Output = _>>> = match &mut self.sender {
            Sender::Http1 { sender, .. } => Box::pin(sender.try_send_request(request)),
            Sender::Http2(sender) => Box::pin(sender.try_send_request(request)),
        };
        sending
    }

    /// Returns the stream after a `101`, or `None` if the connection has ended.
    pub(super) async fn upgraded(mut self) -> Option<UpgradedStream> {
        let Sender::Http1 { upgraded, .. } = &mut self.sender else {
            return None;
        };
        upgraded.take()?.await.ok()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn start_http1<S>(
    route: Route,
    stream: S,
    last: LastActivity,
) -> hyper::Result<(Sender, AbortHandle)>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(MOST_HEADERS)
        .max_buf_size(HEAD_LIMIT)
        .handshake(TokioIo::new(stream))
        .await?;
    let (upgrade, upgraded) = oneshot::channel();
    let task = tokio::task::spawn_local(async move {
        tokio::select! {
            parts = connection.without_shutdown() => {
                if let Ok(parts) = parts {
                    let stream = Rewind::new(parts.read_buf, parts.io.into_inner());
                    let stream: Box<dyn Stream> = Box::new(stream);
                    // Without an upgrade, nothing waits for the stream.
                    let _ = upgrade.send(UpgradedStream { stream, last });
                }
            }
            () = route.until_denied() => {}
        }
    });
    let sender = Sender::Http1 {
        sender,
        upgraded: Some(upgraded),
    };
    Ok((sender, task.abort_handle()))
}

async fn start_http2<S>(route: Route, stream: S) -> hyper::Result<(Sender, AbortHandle)>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_header_list_size(HEAD_LIMIT as u32)
        .max_concurrent_streams(MOST_STREAMS)
        .handshake::<_, Incoming>(TokioIo::new(stream))
        .await?;
    let task = tokio::task::spawn_local(async move {
        tokio::select! {
            // hyper reports an error to the requests on this connection.
            _ = connection => {}
            () = route.until_denied() => {}
        }
    });
    Ok((Sender::Http2(sender), task.abort_handle()))
}
