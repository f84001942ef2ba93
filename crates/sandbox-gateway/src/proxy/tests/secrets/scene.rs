//! A guest with secrets, its server, and its requests.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::interception::{CertificateAuthority, Interceptor, Secrets};
use crate::proxy::tests::guest::{client_config, tls, tunnel};
use crate::proxy::tests::servers::{Outside, Seen};
use crate::proxy::tests::world::World;
use crate::proxy::upstream::LocalExecutor;
use sandbox_spec::secret::SecretRequest;

/// The value of both secrets.
pub(super) const VALUE: &str = "hunter2-is-the-value";

/// The guest's part of an interceptor for `TOKEN@api.test` and `OTHER@second.test`.
pub(super) struct Guest {
    pub(super) placeholder: String,
    pub(super) other_placeholder: String,
    pub(super) roots: RootCertStore,
}

pub(super) fn interceptor(outside: &Outside) -> (Interceptor, Guest) {
    let secret = |text: &str| {
        let request = SecretRequest::of_variable(text).unwrap();
        request.resolve(|_| Some(VALUE.into())).unwrap()
    };
    let (token, other) = (secret("TOKEN@api.test"), secret("OTHER@second.test"));
    let placeholder = token.placeholder.clone();
    let other_placeholder = other.placeholder.clone();
    let secrets = Secrets::new(vec![token, other]).unwrap();
    let authority = CertificateAuthority::generate(secrets.hosts()).unwrap();
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
    roots.add(trusted).unwrap();
    let interceptor = Interceptor::with_roots(secrets, authority, outside.roots()).unwrap();
    let guest = Guest {
        placeholder,
        other_placeholder,
        roots,
    };
    (interceptor, guest)
}

/// A guest with secrets, and a server at `api.test` that echoes.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) guest: Guest,
    /// The port of the server.
    pub(super) port: u16,
    /// The requests that the server received.
    pub(super) seen: Seen,
}

impl Scene {
    /// Creates a scene in which the proxy trusts the server, which speaks these protocols.
    pub(super) async fn new(protocols: &[&str]) -> Self {
        let outside = Outside::new(&["api.test"]);
        Self::with_server(&outside, &outside, protocols).await
    }

    /// Creates a scene in which the proxy trusts the certificate of `trusted`, and the server has
    /// that of `server`.
    pub(super) async fn with_server(
        trusted: &Outside,
        server: &Outside,
        protocols: &[&str],
    ) -> Self {
        let (interceptor, guest) = interceptor(trusted);
        let world = World::with(Some(interceptor)).await;
        let (address, seen) = server.echo(protocols).await;
        Self {
            world,
            guest,
            port: address.port(),
            seen,
        }
    }

    /// Opens the guest's TLS connection to `api.test` through the explicit proxy.
    pub(super) async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let stream = tunnel(&self.world, &format!("api.test:{}", self.port)).await;
        let config = client_config(self.guest.roots.clone(), protocols);
        tls(stream, "api.test", config).await.unwrap()
    }

    /// Sends one request for `path` of `api.test` over a new connection.
    pub(super) async fn ask(&self, protocols: &[&str], path: &str, authorization: &str) -> Answer {
        let stream = self.connect(protocols).await;
        ask(stream, "api.test", self.port, path, authorization).await
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) echoed: Option<String>,
    pub(super) body: String,
}

pub(super) fn speaks_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// Sends one request over the negotiated version of HTTP.
pub(super) async fn ask(
    stream: TlsStream<TcpStream>,
    host: &str,
    port: u16,
    path: &str,
    authorization: &str,
) -> Answer {
    let http2 = speaks_http2(&stream);
    let request = request(http2, host, port, path, authorization);
    let stream = TokioIo::new(stream);
    let response = if http2 {
        let (mut sender, connection) = http2::handshake(LocalExecutor, stream).await.unwrap();
        tokio::task::spawn_local(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::task::spawn_local(connection);
        sender.send_request(request).await.unwrap()
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        echoed: parts
            .headers
            .get("x-echo")
            .map(|value| value.to_str().unwrap().to_owned()),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

pub(super) fn request(
    http2: bool,
    host: &str,
    port: u16,
    path: &str,
    authorization: &str,
) -> Request<Empty<Bytes>> {
    let builder = if http2 {
        Request::get(format!("https://{host}:{port}{path}"))
    } else {
        Request::get(path).header("host", format!("{host}:{port}"))
    };
    builder
        .header("authorization", authorization)
        .body(Empty::new())
        .unwrap()
}
