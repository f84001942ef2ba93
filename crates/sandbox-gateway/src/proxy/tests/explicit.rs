//! Allowed requests to the explicit proxy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::guest::{client_config, client_hello, tls, tunnel};
use super::servers::{self, Outside};
use super::world::{World, assert_echoes, exchange, on_gateway, read_head};
use crate::access_log::{AskedBy, Outcome};
use crate::proxy::route::Route;
use sandbox_spec::policy::Reason;

fn get(authority: &str, path: &str) -> String {
    format!("GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

/// Returns `good.test` with the port of a server.
fn good_test(server: SocketAddr) -> String {
    format!("good.test:{}", server.port())
}

/// Starts a web server that echoes, and returns its host and port.
async fn echo_host() -> String {
    good_test(servers::echo().await.0)
}

/// Reads one response with a `Content-Length`.
async fn read_answer(stream: &mut TcpStream) -> (String, String) {
    let head = read_head(stream).await;
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn policy_decides_each_request_of_kept_alive_connection() {
    on_gateway(|| async {
        let world = World::new().await;
        let (address, connections) = servers::echo().await;
        let port = address.port();
        let mut stream = world.explicit().await;
        for (host, status, body) in [
            ("good.test", "200", "GET /x\n"),
            ("GOOD.test.", "200", "GET /x\n"),
            ("denied.test", "403", "denied"),
            ("good.test", "200", "GET /x\n"),
            ("second.test", "200", "GET /x\n"),
        ] {
            let request = get(&format!("{host}:{port}"), "/x");
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, answer) = read_answer(&mut stream).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(answer.contains(body), "{answer}");
            if status == "200" {
                let host = host.to_lowercase();
                let host = host.trim_end_matches('.');
                assert!(
                    answer.contains(&format!("host: {host}:{port}\n")),
                    "{answer}"
                );
            }
        }
        // The three requests to one name share a connection.
        assert_eq!(connections.all().len(), 2);
        drop(stream);
        let denied = world.denied();
        assert_eq!(denied.len(), 1);
        assert_eq!(denied[0].asked, AskedBy::Http);
    });
}

#[test]
fn host_that_closes_kept_alive_connection_is_connected_again() {
    on_gateway(|| async {
        let world = World::new().await;
        let (address, requests) =
            servers::canned(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let mut stream = world.explicit().await;
        for _ in 0..3 {
            let request = get(&good_test(address), "/");
            stream.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(read_answer(&mut stream).await.1, "ok");
        }
        assert_eq!(requests.all().len(), 3);
    });
}

#[test]
fn headers_keep_case_and_lose_hop_by_hop_ones() {
    on_gateway(|| async {
        let world = World::new().await;
        let (address, requests) =
            servers::canned(b"HTTP/1.1 200 OK\r\nX-CamelCase: 1\r\nConnection: close\r\n\r\nok")
                .await;
        let host = good_test(address);
        let request = format!(
            "GET http://{host}/a?b HTTP/1.1\r\nHost: {host}\r\nX-MixedCase: Yes\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers\r\n\
             Connection: close, X-Private\r\nX-Private: 1\r\n\r\n"
        );
        let answer = exchange(world.explicit().await, request.as_bytes()).await;
        assert!(
            answer.contains("X-CamelCase: 1\r\n") && answer.contains("ok"),
            "{answer}"
        );
        let seen = &requests.all()[0];
        assert_eq!(
            *seen,
            format!("GET /a?b HTTP/1.1\r\nHost: {host}\r\nX-MixedCase: Yes\r\n\r\n")
        );
    });
}

#[test]
fn bodies_pass_with_length_or_chunks() {
    on_gateway(|| async {
        let world = World::new().await;
        let host = echo_host().await;
        for (framing, body) in [
            ("Content-Length: 5", "hello"),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let request = format!(
                "POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{framing}\r\n\r\n{body}"
            );
            let answer = exchange(world.explicit().await, request.as_bytes()).await;
            assert!(answer.ends_with("\nhello"), "{answer}");
        }
    });
}

#[test]
fn expect_continue_gets_100() {
    on_gateway(|| async {
        let world = World::new().await;
        let host = echo_host().await;
        let mut stream = world.explicit().await;
        let request = format!(
            "POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100 "));
        stream.write_all(b"hello").await.unwrap();
        assert!(read_answer(&mut stream).await.1.ends_with("hello"));
    });
}

#[test]
fn head_response_keeps_length_and_connection() {
    on_gateway(|| async {
        let world = World::new().await;
        let (address, requests) =
            servers::canned(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
        let host = good_test(address);
        let mut stream = world.explicit().await;
        for _ in 0..2 {
            let request = format!("HEAD http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_head(&mut stream).await.to_lowercase();
            assert!(head.contains("content-length: 1234\r\n"), "{head}");
        }
        assert_eq!(requests.all().len(), 2);
    });
}

#[test]
fn tunnel_passes_tls_without_interception() {
    on_gateway(|| async {
        let world = World::new().await;
        let outside = Outside::new(&["good.test"]);
        let (address, _) = outside.echo(&["http/1.1"]).await;
        let stream = tunnel(&world, &format!("good.test.:{}", address.port())).await;
        let config = client_config(outside.roots(), &[]);
        let mut stream = tls(stream, "good.test", config).await.unwrap();
        stream
            .write_all(b"GET /secret HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("GET /secret\n"), "{answer}");
    });
}

#[test]
fn tunnel_has_one_log_line_with_its_bytes() {
    on_gateway(|| async {
        let world = World::new().await;
        let address = servers::reflector().await;
        let hello = client_hello("good.test");
        let mut stream = tunnel(&world, &good_test(address)).await;
        stream.write_all(&hello).await.unwrap();
        stream.write_all(&[7; 100_000]).await.unwrap();
        // One direction is closed. The other one stays open until all bytes arrived.
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let length = hello.len() + 100_000;
        assert_eq!(answer.len(), length);
        let log = world.log();
        assert_eq!(log.len(), 1);
        assert_eq!(
            (log[0].verdict, log[0].asked),
            (Outcome::Allowed, AskedBy::Connect)
        );
        assert_eq!((log[0].up, log[0].down), (length as u64, length as u64));
        assert_eq!(log[0].rule, "allow@good.test:tcp");
        assert_eq!(log[0].address, Some(address.ip()));
        assert_eq!(log[0].name.as_ref().unwrap().as_str(), "good.test");
    });
}

/// Moves the clock forward.
async fn pass_hours(hours: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(hours * 3600)).await;
    tokio::time::resume();
}

#[test]
fn idle_tunnel_closes_after_hours() {
    on_gateway(|| async {
        let world = World::new().await;
        let address = servers::reflector().await;
        let mut stream = tunnel(&world, &good_test(address)).await;
        assert_echoes(&mut stream, &client_hello("good.test")).await;
        pass_hours(3).await;
        assert_echoes(&mut stream, b"still there").await;
        // After the idle limit, the tunnel releases its descriptors.
        pass_hours(5).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    });
}

#[test]
fn websocket_upgrade_becomes_tunnel() {
    on_gateway(|| async {
        let world = World::new().await;
        let host = echo_host().await;
        let mut stream = world.explicit().await;
        let request = format!(
            "GET http://{host}/chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nfirst"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            head.to_lowercase().contains("upgrade: websocket\r\n"),
            "{head}"
        );
        stream.write_all(b" second").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "first second");
    });
}

#[test]
fn other_upgrades_are_not_passed_on() {
    on_gateway(|| async {
        let world = World::new().await;
        let host = echo_host().await;
        let request = format!(
            "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let answer = exchange(world.explicit().await, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            !answer.contains("h2c") && !answer.contains("http2-settings"),
            "{answer}"
        );
    });
}

#[test]
fn concurrent_and_sequential_requests_get_their_own_responses() {
    on_gateway(|| async {
        let world = World::new().await;
        let host = echo_host().await;
        let padding = "x".repeat(20_000);
        let mut tasks = Vec::new();
        for number in 0..200 {
            let stream = world.explicit().await;
            let request = format!(
                "POST http://{host}/{number} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
                 Content-Length: 20000\r\n\r\n{padding}"
            );
            tasks.push(tokio::task::spawn_local(async move {
                exchange(stream, request.as_bytes()).await
            }));
        }
        for (number, task) in tasks.into_iter().enumerate() {
            let answer = task.await.unwrap();
            assert!(answer.contains(&format!("POST /{number}\n")));
            assert!(answer.ends_with(&padding));
        }
        let mut kept = world.explicit().await;
        for number in 0..500 {
            kept.write_all(get(&host, &format!("/{number}")).as_bytes())
                .await
                .unwrap();
            let (_, body) = read_answer(&mut kept).await;
            assert!(body.starts_with(&format!("GET /{number}\n")), "{body}");
        }
    });
}

#[test]
fn hundreds_of_tunnels_are_open_at_once() {
    on_gateway(|| async {
        let world = World::new().await;
        let address = servers::reflector().await;
        let authority = good_test(address);
        let mut hello = client_hello("good.test");
        let mut tunnels = Vec::new();
        // Each hello follows its tunnel at once, since the proxy waits for it only for a short
        // time.
        for number in 0..200_usize {
            let mut stream = tunnel(&world, &authority).await;
            stream.write_all(&hello).await.unwrap();
            stream.write_all(&number.to_be_bytes()).await.unwrap();
            tunnels.push(stream);
        }
        for (number, stream) in tunnels.iter_mut().enumerate() {
            stream.read_exact(&mut hello).await.unwrap();
            assert_eq!(stream.read_u64().await.unwrap(), number as u64);
        }
    });
}

#[test]
fn route_is_denied_after_allowlist_edit() {
    on_gateway(|| async {
        let world = World::new().await;
        let route = Route {
            policy_engine: std::rc::Rc::clone(&world.policy_engine),
            asked_by: AskedBy::Connect,
            name: "once.test".parse().unwrap(),
            port: 443,
            destination: None,
        };
        world
            .policy_engine
            .allow_until_stop("once.test".parse().unwrap());
        let kept = route.clone();
        let mut denied = Box::pin(async move { kept.until_denied().await });
        assert!(futures_util::poll!(&mut denied).is_pending());
        // The route is still allowed.
        world.policy_engine.recheck_connections();
        assert!(futures_util::poll!(&mut denied).is_pending());
        let not_listed = Route {
            name: "denied.test".parse().unwrap(),
            ..route
        };
        let mut denied = Box::pin(not_listed.until_denied());
        assert!(futures_util::poll!(&mut denied).is_pending());
        world.policy_engine.recheck_connections();
        denied.await;
        assert_eq!(
            not_listed.allowed().unwrap_err().reason(),
            Reason::NotListed
        );
    });
}
