//! The upstream servers of the tests.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::proxy::upstream::LocalExecutor;

/// The requests or connections that a server received.
#[derive(Clone, Default)]
pub(super) struct Seen(Rc<RefCell<Vec<String>>>);

impl Seen {
    pub(super) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    fn add(&self, text: String) {
        self.0.borrow_mut().push(text);
    }
}

/// Starts a web server that echoes the target, the headers and the body. `Seen` has its
/// connections.
pub(super) async fn echo() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let connections = seen.clone();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            connections.add(peer.to_string());
            tokio::task::spawn_local(serve_echo(stream, false, Seen::default()));
        }
    });
    (address, seen)
}

/// The certificate of the upstream hosts, which clients trust.
pub(super) struct Outside {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Outside {
    /// Returns a self-signed certificate for these names.
    pub(super) fn new(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .self_signed(&key)
            .unwrap();
        Self {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    /// Starts a TLS server that speaks these protocols and answers like [`echo`]. `Seen` has the
    /// headers of each request.
    pub(super) async fn echo(&self, protocols: &[&str]) -> (SocketAddr, Seen) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let requests = seen.clone();
        let acceptor = self.acceptor(protocols);
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, requests) = (acceptor.clone(), requests.clone());
                tokio::task::spawn_local(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        serve_echo(stream, http2, requests).await;
                    }
                });
            }
        });
        (address, seen)
    }

    fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![self.certificate.clone()],
                PrivateKeyDer::Pkcs8(self.key.clone().into()),
            )
            .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn serve_echo<S>(stream: S, http2: bool, seen: Seen)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let switched = Rc::new(Cell::new(false));
    let switching = Rc::clone(&switched);
    let service = service_fn(move |request: Request<Incoming>| {
        switching.set(request.headers().contains_key("upgrade"));
        answer(request, seen.clone())
    });
    let stream = TokioIo::new(stream);
    if http2 {
        let _ = http2::Builder::new(LocalExecutor)
            .serve_connection(stream, service)
            .await;
        return;
    }
    // A WebSocket echoes its bytes.
    if let Ok(parts) = http1::Builder::new()
        .serve_connection(stream, service)
        .without_shutdown()
        .await
    {
        let (mut read, mut write) = tokio::io::split(parts.io.into_inner());
        if switched.get() {
            let _ = write.write_all(&parts.read_buf).await;
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
        let _ = write.shutdown().await;
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Seen,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    seen.add(text.clone());
    let mut response = Response::builder();
    if parts.headers.contains_key("upgrade") {
        response = response
            .status(101)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket");
        return Ok(response.body(Full::default()).unwrap());
    }
    if let Some(value) = parts.headers.get("authorization") {
        response = response.header("x-echo", value.clone());
    }
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    text += &String::from_utf8_lossy(&body);
    Ok(response.body(Full::new(text.into())).unwrap())
}

/// Starts a server that echoes each byte, and closes when its client does.
pub(super) async fn reflector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

/// Starts a server that answers the first bytes of each connection with `answer`. `Seen` has the
/// bytes.
pub(super) async fn canned(answer: &'static [u8]) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let requests = seen.clone();
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 65536];
            let length = stream.read(&mut buffer).await.unwrap();
            requests.add(String::from_utf8_lossy(&buffer[..length]).into_owned());
            stream.write_all(answer).await.unwrap();
        }
    });
    (address, seen)
}
