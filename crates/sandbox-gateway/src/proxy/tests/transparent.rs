//! Connections to ports 80 and 443 by programs without proxy settings.

use rustls::RootCertStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guest::{client_config, client_hello, tls};
use super::servers::{self, Outside};
use super::world::{World, assert_echoes, exchange, on_gateway, read_head};
use crate::access_log::{AskedBy, Outcome};
use sandbox_spec::policy::Reason;

#[test]
fn tls_to_allowed_name_passes_without_interception() {
    on_gateway(|| async {
        let world = World::new().await;
        let outside = Outside::new(&["good.test"]);
        let (address, _) = outside.echo(&["http/1.1"]).await;
        world.resolve("good.test").await;
        let config = client_config(outside.roots(), &[]);
        let mut stream = tls(world.tls(address).await, "good.test", config)
            .await
            .unwrap();
        stream
            .write_all(b"GET /x HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("GET /x\n"), "{answer}");
        drop(stream);
    });
}

#[test]
fn denied_tls_gets_alert() {
    on_gateway(|| async {
        let hidden = {
            // The same ClientHello in two records.
            let whole = client_hello("good.test");
            let (header, message) = whole.split_at(5);
            let record = |bytes: &[u8]| {
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                [&header[..3], &length, bytes].concat()
            };
            [record(&message[..20]), record(&message[20..])].concat()
        };
        let access_denied = 49;
        let unrecognized_name = 112;
        for (first, resolve, reason, asked, alert) in [
            // The sandbox's DNS did not resolve the allowed name to this address.
            (
                client_hello("good.test"),
                false,
                Reason::NameMismatch,
                AskedBy::Sni,
                unrecognized_name,
            ),
            (
                client_hello("denied.test"),
                true,
                Reason::NotListed,
                AskedBy::Sni,
                access_denied,
            ),
            (
                client_hello("127.0.0.1"),
                true,
                Reason::NoName,
                AskedBy::Address,
                unrecognized_name,
            ),
            (
                hidden,
                true,
                Reason::HiddenName,
                AskedBy::Address,
                access_denied,
            ),
        ] {
            let world = World::new().await;
            let address = servers::reflector().await;
            if resolve {
                world.resolve("good.test").await;
            }
            let mut stream = world.tls(address).await;
            stream.write_all(&first).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, [21, 3, 3, 0, 2, 2, alert], "{reason:?}");
            let log = world.log();
            assert_eq!(log.len(), 1, "{log:?}");
            assert_eq!(
                (log[0].verdict, log[0].reason, log[0].asked),
                (Outcome::Denied, Some(reason), asked)
            );
            assert_eq!(log[0].address, Some(address.ip()));
        }
    });
}

#[test]
fn other_protocol_on_tls_port_is_closed() {
    on_gateway(|| async {
        let world = World::new().await;
        let address = servers::reflector().await;
        let mut stream = world.tls(address).await;
        stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        assert_eq!(world.log()[0].reason, Some(Reason::Malformed));
    });
}

#[test]
fn client_reports_alert() {
    on_gateway(|| async {
        let world = World::new().await;
        let address = servers::reflector().await;
        let config = client_config(RootCertStore::empty(), &[]);
        let error = tls(world.tls(address).await, "denied.test", config)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
    });
}

#[test]
fn plain_http_is_decided_by_host_header() {
    on_gateway(|| async {
        let (address, seen) = servers::echo().await;
        let port = address.port();
        for (request, resolve, status, reason) in [
            (format!("Host: good.test:{port}"), true, "200", None),
            (format!("Host: GOOD.test.:{port}"), true, "200", None),
            (
                format!("Host: good.test:{port}"),
                false,
                "403",
                Some(Reason::NameMismatch),
            ),
            (
                format!("Host: denied.test:{port}"),
                true,
                "403",
                Some(Reason::NotListed),
            ),
            (
                format!("Host: 127.0.0.1:{port}"),
                true,
                "403",
                Some(Reason::AddressLiteral),
            ),
            (
                format!("Host: [::1]:{port}"),
                true,
                "403",
                Some(Reason::AddressLiteral),
            ),
            (
                "Host: good.test".into(),
                true,
                "400",
                Some(Reason::Malformed),
            ),
            ("X: y".into(), true, "400", Some(Reason::Malformed)),
            (
                format!("Host: good.test:{port}\r\nHost: good.test:{port}"),
                true,
                "400",
                Some(Reason::Malformed),
            ),
        ] {
            let world = World::new().await;
            if resolve {
                world.resolve("good.test").await;
            }
            let text = format!("GET /x HTTP/1.1\r\n{request}\r\nConnection: close\r\n\r\n");
            let answer = exchange(world.http(address).await, text.as_bytes()).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{text}{answer}"
            );
            let denied = world.denied();
            assert_eq!(
                denied.first().and_then(|entry| entry.reason),
                reason,
                "{text}"
            );
        }
        assert_eq!(seen.all().len(), 2);
    });
}

#[test]
fn connect_to_transparent_proxy_is_rejected() {
    on_gateway(|| async {
        let world = World::new().await;
        let address = servers::reflector().await;
        let request = b"CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n\r\n";
        let answer = exchange(world.http(address).await, request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    });
}

#[test]
fn plaintext_websocket_becomes_tunnel() {
    on_gateway(|| async {
        let world = World::new().await;
        let (address, _) = servers::echo().await;
        world.resolve("good.test").await;
        let mut stream = world.http(address).await;
        let request = format!(
            "GET /chat HTTP/1.1\r\nHost: good.test:{}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\n\r\n",
            address.port()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
        assert_echoes(&mut stream, b"ping").await;
    });
}
