//! Secrets: inserted for their hosts only, and masked in responses.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::explicit::{client_config, tls, tunnel};
use super::servers::{self, Outside};
use super::world::{World, exchange, on_gateway, read_head};
use crate::access_log::Outcome;
use crate::interception::{CertificateAuthority, Interceptor, Secrets};
use crate::proxy::upstream::LocalExecutor;
use sandbox_spec::policy::Reason;
use sandbox_spec::secret::SecretRequest;

const VALUE: &str = "hunter2-is-the-value";

/// The guest's part of an interceptor for `TOKEN@api.test` and `OTHER@second.test`.
struct Guest {
    placeholder: String,
    other_placeholder: String,
    roots: RootCertStore,
}

fn interceptor(outside: &Outside) -> (Interceptor, Guest) {
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

/// Opens the guest's TLS connection to `api.test` through the explicit proxy.
async fn intercepted(
    world: &World,
    guest: &Guest,
    port: u16,
    protocols: &[&str],
) -> TlsStream<TcpStream> {
    let stream = tunnel(world, &format!("api.test:{port}")).await;
    let config = client_config(guest.roots.clone(), protocols);
    tls(stream, "api.test", config).await.unwrap()
}

struct Answer {
    status: StatusCode,
    echoed: Option<String>,
    body: String,
}

/// Sends one request over the negotiated version of HTTP.
async fn ask(stream: TlsStream<TcpStream>, request: Request<Empty<Bytes>>) -> Answer {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
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

fn request(
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

#[test]
fn host_gets_value_and_guest_gets_mask() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test"]);
        for (guest_speaks, host_speaks, http2) in [
            (&["http/1.1"][..], &["http/1.1"][..], false),
            (&["h2", "http/1.1"], &["h2", "http/1.1"], true),
            (&["h2", "http/1.1"], &["http/1.1"], false),
            (&["http/1.1"], &["h2", "http/1.1"], false),
            (&[], &["h2", "http/1.1"], false),
        ] {
            let (interceptor, guest) = interceptor(&outside);
            let world = World::with(Some(interceptor)).await;
            let (address, seen) = outside.echo(host_speaks).await;
            let port = address.port();
            let stream = intercepted(&world, &guest, port, guest_speaks).await;
            assert_eq!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), http2);
            let authorization = format!("Bearer {}", guest.placeholder);
            let answer = ask(
                stream,
                request(http2, "api.test", port, "/v1", &authorization),
            )
            .await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            assert!(seen.all()[0].contains(&format!("authorization: Bearer {VALUE}\n")));
            // The host echoes its request, in a header and in the body.
            let stars = "*".repeat(VALUE.len());
            assert_eq!(answer.echoed, Some(format!("Bearer {stars}")));
            assert!(
                answer
                    .body
                    .contains(&format!("authorization: Bearer {stars}\n")),
                "{}",
                answer.body
            );
            assert!(!answer.body.contains(VALUE));
            assert!(!world.log_text().contains(VALUE));
        }
    });
}

#[test]
fn basic_credentials_get_value() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test"]);
        let (interceptor, guest) = interceptor(&outside);
        let world = World::with(Some(interceptor)).await;
        let (address, seen) = outside.echo(&["http/1.1"]).await;
        let port = address.port();
        let stream = intercepted(&world, &guest, port, &[]).await;
        let credentials = STANDARD.encode(format!("git:{}", guest.placeholder));
        let answer = ask(
            stream,
            request(
                false,
                "api.test",
                port,
                "/",
                &format!("Basic {credentials}"),
            ),
        )
        .await;
        let expected = STANDARD.encode(format!("git:{VALUE}"));
        assert!(seen.all()[0].contains(&format!("authorization: Basic {expected}\n")));
        assert!(!answer.body.contains(&expected), "{}", answer.body);
    });
}

#[test]
fn secret_for_other_host_is_denied() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test"]);
        for (http2, protocol) in [(false, "http/1.1"), (true, "h2")] {
            let (interceptor, guest) = interceptor(&outside);
            let world = World::with(Some(interceptor)).await;
            let (address, seen) = outside.echo(&[protocol]).await;
            let port = address.port();
            for (path, authorization) in [
                (
                    "/".to_owned(),
                    format!("Bearer {}", guest.other_placeholder),
                ),
                (
                    format!("/?key={}", guest.other_placeholder),
                    "Bearer x".into(),
                ),
                (
                    "/".into(),
                    format!(
                        "Basic {}",
                        STANDARD.encode(format!("x:{}", guest.other_placeholder))
                    ),
                ),
            ] {
                let stream = intercepted(&world, &guest, port, &[protocol]).await;
                let answer = ask(
                    stream,
                    request(http2, "api.test", port, &path, &authorization),
                )
                .await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
                assert!(answer.body.contains("`OTHER`"), "{}", answer.body);
            }
            assert!(seen.all().is_empty());
            let denied: Vec<_> = world
                .log()
                .into_iter()
                .filter(|entry| entry.verdict == Outcome::Denied)
                .collect();
            assert_eq!(denied.len(), 3);
            assert!(
                denied
                    .iter()
                    .all(|entry| entry.reason == Some(Reason::SecretElsewhere))
            );
            assert!(denied.iter().all(|entry| entry.rule == "secrets"));
        }
    });
}

#[test]
fn secret_in_plaintext_is_denied() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test"]);
        let (interceptor, guest) = interceptor(&outside);
        let world = World::with(Some(interceptor)).await;
        let (address, seen) = servers::echo().await;
        for (name, says) in [("api.test", "in plaintext"), ("good.test", "is not for")] {
            let host = format!("{name}:{}", address.port());
            let headers = format!(
                "Host: {host}\r\nX-Key: {}\r\nConnection: close",
                guest.placeholder
            );
            let request = format!("GET http://{host}/ HTTP/1.1\r\n{headers}\r\n\r\n");
            let answer = exchange(world.explicit().await, request.as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 403 ") && answer.contains(says),
                "{answer}"
            );
            world.resolve(name).await;
            let request = format!("GET / HTTP/1.1\r\n{headers}\r\n\r\n");
            let answer = exchange(world.http(address).await, request.as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 403 ") && answer.contains(says),
                "{answer}"
            );
        }
        assert!(seen.all().is_empty());
        assert!(!world.log_text().contains(VALUE));
    });
}

#[test]
fn request_for_other_host_is_misdirected() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test"]);
        for (http2, protocol) in [(false, "http/1.1"), (true, "h2")] {
            let (interceptor, guest) = interceptor(&outside);
            let world = World::with(Some(interceptor)).await;
            let (address, seen) = outside.echo(&[protocol]).await;
            let port = address.port();
            let stream = intercepted(&world, &guest, port, &[protocol]).await;
            let answer = ask(stream, request(http2, "good.test", port, "/", "x")).await;
            assert_eq!(
                answer.status,
                StatusCode::MISDIRECTED_REQUEST,
                "{}",
                answer.body
            );
            assert!(seen.all().is_empty());
        }
    });
}

#[test]
fn unverified_host_gets_no_request() {
    on_gateway(|| async {
        let trusted = Outside::new(&["api.test"]);
        let imposters = [Outside::new(&["api.test"]), Outside::new(&["evil.test"])];
        for imposter in imposters {
            for protocol in ["http/1.1", "h2"] {
                let (interceptor, guest) = interceptor(&trusted);
                let world = World::with(Some(interceptor)).await;
                let (address, seen) = imposter.echo(&[protocol]).await;
                let port = address.port();
                let stream = intercepted(&world, &guest, port, &[protocol]).await;
                let authorization = format!("Bearer {}", guest.placeholder);
                let http2 = protocol == "h2";
                let answer = ask(
                    stream,
                    request(http2, "api.test", port, "/", &authorization),
                )
                .await;
                assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
                assert!(answer.body.contains("certificate"), "{}", answer.body);
                assert!(seen.all().is_empty());
                assert!(
                    world
                        .log()
                        .iter()
                        .any(|entry| entry.reason == Some(Reason::Upstream))
                );
            }
        }
    });
}

#[test]
fn intercepted_websocket_passes_bytes() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test"]);
        let (interceptor, guest) = interceptor(&outside);
        let world = World::with(Some(interceptor)).await;
        let (address, seen) = outside.echo(&["http/1.1"]).await;
        let mut stream = intercepted(&world, &guest, address.port(), &["http/1.1"]).await;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: api.test:{}\r\nAuthorization: Bearer {}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            address.port(),
            guest.placeholder
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        assert!(seen.all()[0].contains(VALUE));
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    });
}

#[test]
fn http2_streams_get_their_own_responses() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test"]);
        let (interceptor, guest) = interceptor(&outside);
        let world = World::with(Some(interceptor)).await;
        let (address, _) = outside.echo(&["h2"]).await;
        let port = address.port();
        let stream = intercepted(&world, &guest, port, &["h2"]).await;
        let (sender, connection) = http2::handshake(LocalExecutor, TokioIo::new(stream))
            .await
            .unwrap();
        tokio::task::spawn_local(connection);
        let mut tasks = Vec::new();
        for number in 0..100 {
            let request = request(
                true,
                "api.test",
                port,
                &format!("/{number}"),
                &guest.placeholder,
            );
            let mut sender = sender.clone();
            tasks.push(tokio::task::spawn_local(async move {
                let response = sender.send_request(request).await.unwrap();
                response.into_body().collect().await.unwrap().to_bytes()
            }));
        }
        for (number, task) in tasks.into_iter().enumerate() {
            let body = String::from_utf8(task.await.unwrap().to_vec()).unwrap();
            assert!(body.contains(&format!("/{number}\n")), "{body}");
            assert!(!body.contains(VALUE));
        }
        // All requests share one upstream connection.
        drop(sender);
        let connections = world
            .log()
            .into_iter()
            .filter(|entry| entry.verdict == Outcome::Allowed);
        assert!(connections.count() <= 1);
    });
}

#[test]
fn other_hosts_keep_their_certificates() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test", "good.test"]);
        let (interceptor, guest) = interceptor(&outside);
        let world = World::with(Some(interceptor)).await;
        let (address, _) = outside.echo(&[]).await;
        let authority = format!("good.test:{}", address.port());
        let config = client_config(outside.roots(), &[]);
        tls(tunnel(&world, &authority).await, "good.test", config)
            .await
            .unwrap();
        let config = client_config(guest.roots, &[]);
        tls(tunnel(&world, &authority).await, "good.test", config)
            .await
            .unwrap_err();
    });
}

#[test]
fn secrets_work_in_open_mode() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test", "unlisted.test"]);
        let (interceptor, guest) = interceptor(&outside);
        let world = World::open_mode(interceptor).await;
        let (address, seen) = outside.echo(&["http/1.1"]).await;
        let port = address.port();
        world.resolve("api.test").await;
        assert!(world.proxy.intercepts((address.ip(), 443).into()));
        assert!(!world.proxy.intercepts((address.ip(), 8443).into()));
        let config = client_config(guest.roots.clone(), &[]);
        let stream = tls(world.by_address(address).await, "api.test", config)
            .await
            .unwrap();
        let answer = ask(
            stream,
            request(false, "api.test", port, "/", &guest.placeholder),
        )
        .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert!(seen.all()[0].contains(VALUE));
        // The proxy does not intercept another name at the same address.
        let config = client_config(outside.roots(), &[]);
        let stream = tls(world.by_address(address).await, "unlisted.test", config)
            .await
            .unwrap();
        let answer = ask(
            stream,
            request(false, "unlisted.test", port, "/", &guest.placeholder),
        )
        .await;
        assert!(answer.body.contains(&guest.placeholder));
    });
}

#[test]
fn other_protocols_pass_by_address() {
    on_gateway(|| async {
        let outside = Outside::new(&["api.test"]);
        let (interceptor, _) = interceptor(&outside);
        let world = World::open_mode(interceptor).await;
        let address = servers::reflector().await;
        let mut stream = world.by_address(address).await;
        stream.write_all(b"plain\r\n\r\n").await.unwrap();
        assert_eq!(read_head(&mut stream).await, "plain\r\n\r\n");
    });
}
