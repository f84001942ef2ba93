//! The servers of a test's world. All run on one thread, although their sockets belong to
//! two networks.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::dns::{self, Zone};
use super::world::{HOSTS, MIRROR, OUTSIDE};
use crate::harness::Namespace;

#[path = "../../fixtures/network-client/src/contents.rs"]
mod contents;

/// Ports with plain HTTP on the outside: the ports of HTTP, SSH and DNS over TLS, and one
/// that stands for all others.
const PLAIN: [u16; 4] = [80, 22, 853, 8080];

/// Ports on the outside that echo datagrams.
const ECHO: [u16; 3] = [7, 443, 853];

/// The port with plain HTTP on all addresses of the host.
pub(super) const HOSTS_PORT: u16 = 8080;
/// The port of the host that echoes datagrams.
pub(super) const HOSTS_ECHO: u16 = 7;

/// A request as a server received it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The server's address.
    pub(super) at: SocketAddr,
    pub(super) uri: String,
    /// Lines of `name: value`.
    pub(super) headers: String,
}

#[derive(Default)]
pub(super) struct State {
    /// The names of the DNS server.
    pub(super) zone: Zone,
    /// Files below `/`.
    pub(super) files: Mutex<HashMap<String, Vec<u8>>>,
    /// Every request.
    seen: Mutex<Vec<Seen>>,
    /// The destination of every TCP connection and datagram.
    reached: Mutex<Vec<SocketAddr>>,
}

/// The running servers. Dropping this ends them.
pub(super) struct Servers {
    state: Arc<State>,
    authority: String,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    pub(super) fn start(host: &Namespace, outside: &Namespace) -> Self {
        let (authority, config) = certificates();
        let state = Arc::new(State::default());
        let sockets = Sockets {
            plain: {
                let mut plain = outside.within(|| Vec::from(PLAIN.map(listen)));
                plain.push(host.within(|| listen(HOSTS_PORT)));
                plain
            },
            tls: outside.within(|| listen(443)),
            resolvers: outside.within(|| datagrams(&[53])),
            resolver_streams: outside.within(|| listen(53)),
            echoes: {
                let mut echoes = outside.within(|| datagrams(&ECHO));
                let hosts = ["127.0.0.1", HOSTS, "::1"];
                echoes.extend(host.within(|| hosts.map(|address| bind(address, HOSTS_ECHO))));
                echoes
            },
        };
        let (end, ended) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                sockets.serve(&shared, &TlsAcceptor::from(config));
                // The sender is dropped at the end of the test.
                let _ = ended.await;
            });
        });
        Self {
            state,
            authority,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Returns the certificate of the servers' authority, as PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.state.zone
    }

    /// Serves a file at every address.
    pub(super) fn add_file(&self, path: &str, contents: Vec<u8>) {
        let mut files = self.state.files.lock().unwrap();
        files.insert(path.into(), contents);
    }

    /// Returns the requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Returns the destinations that were reached since the previous call.
    pub(super) fn take_reached(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.state.reached.lock().unwrap())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.end.take());
        let thread = self
            .thread
            .take()
            .expect("only this function takes the thread");
        if thread.join().is_err() && !std::thread::panicking() {
            panic!("a server of the test panicked");
        }
    }
}

/// Creates an authority and a certificate for every name of the test.
fn certificates() -> (String, Arc<ServerConfig>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Python requires these key usages of RFC 5280, OpenSSL a name that differs from the
    // servers' names.
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CommonName, "the authority of the test");
    let authority = parameters.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(parameters, authority_key);
    let key = KeyPair::generate().unwrap();
    let names = [
        "mirror.test",
        "a.wild.test",
        "flip.test",
        "api.test",
        "other.test",
        MIRROR,
    ]
    .map(String::from);
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.use_authority_key_identifier_extension = true;
    let certificate = parameters.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (authority, Arc::new(config))
}

struct Sockets {
    plain: Vec<std::net::TcpListener>,
    tls: std::net::TcpListener,
    resolvers: Vec<std::net::UdpSocket>,
    resolver_streams: std::net::TcpListener,
    echoes: Vec<std::net::UdpSocket>,
}

/// Listens on every address of the current network.
fn listen(port: u16) -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind(("::", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn bind(address: &str, port: u16) -> std::net::UdpSocket {
    let address: IpAddr = address.parse().unwrap();
    let socket = std::net::UdpSocket::bind((address, port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Binds a socket to each address of the outside, so that an answer comes from the address
/// of the question.
fn datagrams(ports: &[u16]) -> Vec<std::net::UdpSocket> {
    OUTSIDE
        .iter()
        .flat_map(|address| ports.iter().map(|port| bind(address, *port)))
        .collect()
}

impl Sockets {
    fn serve(self, state: &Arc<State>, tls: &TlsAcceptor) {
        for listener in self.plain {
            let listener = TcpListener::from_std(listener).unwrap();
            tokio::spawn(accept(listener, Arc::clone(state), None));
        }
        let listener = TcpListener::from_std(self.tls).unwrap();
        tokio::spawn(accept(listener, Arc::clone(state), Some(tls.clone())));
        for socket in self.resolvers {
            let socket = UdpSocket::from_std(socket).unwrap();
            tokio::spawn(dns::serve(socket, Arc::clone(state)));
        }
        let listener = TcpListener::from_std(self.resolver_streams).unwrap();
        tokio::spawn(dns::accept(listener, Arc::clone(state)));
        for socket in self.echoes {
            let socket = UdpSocket::from_std(socket).unwrap();
            tokio::spawn(echo(socket, Arc::clone(state)));
        }
    }
}

impl State {
    pub(super) fn reached(&self, at: SocketAddr) {
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        self.reached.lock().unwrap().push(at);
    }

    fn answer(&self, at: SocketAddr, request: Request<Incoming>) -> Response<Content> {
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        let headers: String = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let uri = request.uri().to_string();
        self.seen.lock().unwrap().push(Seen {
            at,
            uri,
            headers: headers.clone(),
        });
        let path = request.uri().path();
        let mut parts = path.split('/').skip(1);
        let whole = match (parts.next(), parts.next(), parts.next()) {
            (Some("file"), Some(number), Some(length)) => {
                contents::contents(number.parse().unwrap(), length.parse().unwrap())
            }
            (Some("echo"), ..) => headers.into_bytes(),
            (Some(""), ..) => format!("served by {at}").into_bytes(),
            (Some("socket"), ..) => return switch(request),
            (Some("endless"), ..) => return Response::new(Content::endless("and then nothing")),
            _ => match self.files.lock().unwrap().get(path) {
                Some(file) => file.clone(),
                None => {
                    let mut response = Response::new(Content::whole(Vec::new()));
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    return response;
                }
            },
        };
        let mut response = Response::new(Content::whole(whole));
        if path.ends_with('/') {
            // A path with a trailing slash is an index page.
            let html = HeaderValue::from_static("text/html");
            response.headers_mut().insert(CONTENT_TYPE, html);
        }
        response
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let at = stream.local_addr().unwrap();
        state.reached(at);
        let (state, tls) = (Arc::clone(&state), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => http(stream, at, state, false).await,
                Some(tls) => {
                    // A client that does not trust this server closes the connection.
                    if let Ok(stream) = tls.accept(stream).await {
                        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        http(stream, at, state, http2).await;
                    }
                }
            }
        });
    }
}

async fn http<S>(stream: S, at: SocketAddr, state: Arc<State>, http2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = state.answer(at, request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let io = TokioIo::new(stream);
    // Clients may send invalid requests or close the connection.
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(io, service).await;
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(io, service).with_upgrades().await;
    }
}

/// Leaves HTTP as for a WebSocket, echoes the first bytes and closes the connection. The
/// bytes are not WebSocket frames, since the gateway does not parse them.
fn switch(request: Request<Incoming>) -> Response<Content> {
    let mut response = Response::new(Content::whole(Vec::new()));
    let Some(protocol) = request.headers().get(UPGRADE).cloned() else {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    };
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
    tokio::spawn(async move {
        // The client may close the connection.
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _ = echo_once(TokioIo::new(upgraded)).await;
        }
    });
    response
}

async fn echo_once(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; 65536];
    let length = stream.read(&mut buffer).await?;
    let answer = [b"echo: ", &buffer[..length]].concat();
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

async fn echo(socket: UdpSocket, state: Arc<State>) {
    let mut buffer = vec![0; 65536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        state.reached(socket.local_addr().unwrap());
        let answer = [b"echo: ", &buffer[..length]].concat();
        socket.send_to(&answer, from).await.unwrap();
    }
}

/// The body of an answer, which may never end.
struct Content {
    bytes: Option<Bytes>,
    ends: bool,
}

impl Content {
    fn whole(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Some(bytes.into()),
            ends: true,
        }
    }

    fn endless(text: &'static str) -> Self {
        Self {
            bytes: Some(text.into()),
            ends: false,
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match (self.bytes.take(), self.ends) {
            (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            (None, true) => Poll::Ready(None),
            (None, false) => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.bytes, self.ends) {
            (Some(bytes), true) => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
