//! Denied and malformed requests to the explicit proxy.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guest::client_hello;
use super::servers;
use super::world::{World, exchange, on_gateway, read_head};
use crate::access_log::{AskedBy, Outcome};
use sandbox_spec::policy::Reason;

/// Each row has a request, the status of its response, the logged reason, and a part of the text.
#[test]
fn denied_requests_get_status_text_and_log_line() {
    on_gateway(|| async {
        let table: &[(&str, &str, Reason, &str)] = &[
            (
                "CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443",
                "403",
                Reason::NotListed,
                "sandbox proxy allow denied.test",
            ),
            (
                "GET http://denied.test/ HTTP/1.1\r\nHost: denied.test",
                "403",
                Reason::NotListed,
                "sandbox proxy allow denied.test",
            ),
            (
                "CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: 127.0.0.1",
                "403",
                Reason::AddressLiteral,
                "`127.0.0.1`",
            ),
            (
                "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443",
                "403",
                Reason::AddressLiteral,
                "`::1`",
            ),
            (
                "CONNECT 2130706433:443 HTTP/1.1",
                "403",
                Reason::AddressLiteral,
                "address",
            ),
            (
                "GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1",
                "403",
                Reason::AddressLiteral,
                "address",
            ),
            (
                "GET http://[::1]:80/ HTTP/1.1\r\nHost: [::1]:80",
                "403",
                Reason::AddressLiteral,
                "address",
            ),
            (
                "CONNECT listed.test:22 HTTP/1.1",
                "403",
                Reason::NotTheWeb,
                "22",
            ),
            (
                "CONNECT user@listed.test:443 HTTP/1.1",
                "400",
                Reason::Malformed,
                "",
            ),
            (
                "GET ftp://listed.test/ HTTP/1.1\r\nHost: listed.test",
                "400",
                Reason::Malformed,
                "http",
            ),
            (
                "CONNECT listed.test:443 HTTP/1.1\r\nHost: denied.test:443",
                "400",
                Reason::Malformed,
                "Host",
            ),
            ("CONNECT listed.test HTTP/1.1", "400", Reason::Malformed, ""),
            (
                "GET http://listed.test/ HTTP/1.1\r\nHost: denied.test",
                "400",
                Reason::Malformed,
                "Host",
            ),
            (
                "GET http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\nHost: listed.test",
                "400",
                Reason::Malformed,
                "two Host",
            ),
            (
                "GET http://user:password@listed.test/ HTTP/1.1\r\nHost: listed.test",
                "400",
                Reason::Malformed,
                "user",
            ),
            (
                "POST http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked",
                "400",
                Reason::Malformed,
                "Content-Length and Transfer-Encoding",
            ),
            (
                "POST http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 6",
                "400",
                Reason::Malformed,
                "Content-Length and Transfer-Encoding",
            ),
            (
                "GET / HTTP/1.1\r\nHost: listed.test",
                "400",
                Reason::Malformed,
                "proxy",
            ),
            (
                "GET https://listed.test/ HTTP/1.1\r\nHost: listed.test",
                "400",
                Reason::Malformed,
                "CONNECT",
            ),
        ];
        for (request, status, reason, says) in table {
            let world = World::new().await;
            let request = format!("{request}\r\nConnection: close\r\n\r\n");
            let answer = exchange(world.explicit().await, request.as_bytes()).await;
            let shown = format!("{request}{answer}");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{shown}"
            );
            assert!(answer.contains(says), "{shown}");
            let log = world.log();
            // hyper rejects a target that is not a URI, so the log has no line.
            if let [entry] = log.as_slice() {
                assert_eq!(
                    (entry.verdict, entry.reason),
                    (Outcome::Denied, Some(*reason)),
                    "{shown}"
                );
            } else {
                assert!(request.contains("user@"), "{shown} {log:?}");
            }
        }
    });
}

#[test]
fn smuggled_request_never_reaches_host() {
    on_gateway(|| async {
        let world = World::new().await;
        let (address, seen) = servers::echo().await;
        let port = address.port();
        let first =
            format!("GET http://good.test:{port}/1 HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n");
        let smuggling = format!(
            "POST http://good.test:{port}/2 HTTP/1.1\r\nHost: good.test:{port}\r\nContent-Length: 60\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
             GET http://good.test:{port}/3 HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n"
        );
        let answer = exchange(
            world.explicit().await,
            format!("{first}{smuggling}").as_bytes(),
        )
        .await;
        assert!(answer.contains("GET /1\n"), "{answer}");
        assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
        assert!(
            !answer.contains("/2\n") && !answer.contains("/3\n"),
            "{answer}"
        );
        assert_eq!(seen.all().len(), 1);
    });
}

#[test]
fn name_that_moved_to_private_address_is_denied() {
    on_gateway(|| async {
        let world = World::new().await;
        let (address, _) = servers::echo().await;
        let port = address.port();
        let request = format!(
            "GET http://good.test:{port}/ HTTP/1.1\r\nHost: good.test:{port}\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(world.explicit().await, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        for private in ["127.0.0.2", "10.1.2.3", "169.254.169.254", "::1"] {
            let moved = vec![private.parse().unwrap()];
            world.zone.borrow_mut().insert("good.test".into(), moved);
            let answer = exchange(world.explicit().await, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{private} {answer}");
            let last = world.log().pop().unwrap();
            assert_eq!(last.reason, Some(Reason::AddressBehindName));
            assert_eq!(last.asked, AskedBy::Http);
        }
    });
}

#[test]
fn invalid_requests_get_error_status() {
    on_gateway(|| async {
        let long = format!(
            "GET http://good.test/ HTTP/1.1\r\nX: {}\r\n\r\n",
            "x".repeat(100_000)
        );
        let many = format!(
            "GET http://good.test/ HTTP/1.1\r\n{}\r\n",
            "X: y\r\n".repeat(200)
        );
        for (request, status) in [
            ("\x16\x03\x01\x02\x00\x01\r\n\r\n", "400"),
            (
                "GET http://good.test/ HTTP/1.1\r\nHost : good.test\r\n\r\n",
                "400",
            ),
            (
                "GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n folded\r\n\r\n",
                "400",
            ),
            (
                "POST http://good.test/ HTTP/1.1\r\nContent-Length: +4\r\n\r\n",
                "400",
            ),
            (
                "POST http://good.test/ HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
                "400",
            ),
            (
                "POST http://good.test/ HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
                "400",
            ),
            (&long, "431"),
            (&many, "431"),
        ] {
            let world = World::new().await;
            let answer = exchange(world.explicit().await, request.as_bytes()).await;
            let shown: String = request.chars().take(100).collect();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{shown:?} {answer}"
            );
        }
    });
}

#[test]
fn missing_host_gives_bad_gateway() {
    on_gateway(|| async {
        let world = World::new().await;
        world.zone.borrow_mut().remove("good.test");
        let answer = exchange(
            world.explicit().await,
            b"CONNECT good.test:443 HTTP/1.1\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(answer.contains("good.test"), "{answer}");
    });
}

#[test]
fn tunnel_must_start_with_tls_to_its_host() {
    on_gateway(|| async {
        let table = [
            (client_hello("other.test"), Reason::NameMismatch, 112),
            (client_hello("127.0.0.1"), Reason::NoName, 112),
            (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), Reason::Malformed, 0),
            (
                b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n".to_vec(),
                Reason::Malformed,
                0,
            ),
        ];
        for (first, reason, alert) in table {
            let world = World::new().await;
            let address = servers::reflector().await;
            let mut stream = world.explicit().await;
            let request = format!("CONNECT good.test:{} HTTP/1.1\r\n\r\n", address.port());
            stream.write_all(request.as_bytes()).await.unwrap();
            assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
            stream.write_all(&first).await.unwrap();
            let mut answer = Vec::new();
            // A tunnel that does not start with TLS can end with a reset.
            let _ = stream.read_to_end(&mut answer).await;
            let expected = [21, 3, 3, 0, 2, 2, alert];
            assert_eq!(answer, if alert == 0 { &[][..] } else { &expected });
            let denied = world.denied().remove(0);
            assert_eq!(
                (denied.reason, denied.asked),
                (Some(reason), AskedBy::Connect)
            );
            if reason == Reason::NameMismatch {
                assert_eq!(denied.name.as_ref().unwrap().as_str(), "other.test");
            }
        }
    });
}
