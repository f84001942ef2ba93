//! Secrets: inserted for their hosts only, and masked in responses.

mod scene;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use self::scene::{Scene, VALUE, ask, interceptor, request, speaks_http2};
use super::guest::{client_config, tls, tunnel};
use super::servers::{self, Outside};
use super::world::{World, assert_echoes, exchange, on_gateway, read_head};
use crate::access_log::Outcome;
use crate::proxy::upstream::LocalExecutor;
use sandbox_spec::policy::Reason;

#[test]
fn host_gets_value_and_guest_gets_mask() {
    on_gateway(|| async {
        for (guest_speaks, host_speaks, http2) in [
            (&["http/1.1"][..], &["http/1.1"][..], false),
            (&["h2", "http/1.1"], &["h2", "http/1.1"], true),
            (&["h2", "http/1.1"], &["http/1.1"], false),
            (&["http/1.1"], &["h2", "http/1.1"], false),
            (&[], &["h2", "http/1.1"], false),
        ] {
            let scene = Scene::new(host_speaks).await;
            let stream = scene.connect(guest_speaks).await;
            assert_eq!(speaks_http2(&stream), http2);
            let authorization = format!("Bearer {}", scene.guest.placeholder);
            let answer = ask(stream, "api.test", scene.port, "/v1", &authorization).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            assert!(scene.seen.all()[0].contains(&format!("authorization: Bearer {VALUE}\n")));
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
            assert!(!scene.world.log_text().contains(VALUE));
        }
    });
}

#[test]
fn basic_credentials_get_value() {
    on_gateway(|| async {
        let scene = Scene::new(&["http/1.1"]).await;
        let credentials = STANDARD.encode(format!("git:{}", scene.guest.placeholder));
        let answer = scene.ask(&[], "/", &format!("Basic {credentials}")).await;
        let expected = STANDARD.encode(format!("git:{VALUE}"));
        assert!(scene.seen.all()[0].contains(&format!("authorization: Basic {expected}\n")));
        assert!(!answer.body.contains(&expected), "{}", answer.body);
    });
}

#[test]
fn secret_for_other_host_is_denied() {
    on_gateway(|| async {
        for protocol in ["http/1.1", "h2"] {
            let scene = Scene::new(&[protocol]).await;
            let other = &scene.guest.other_placeholder;
            let credentials = STANDARD.encode(format!("x:{other}"));
            for (path, authorization) in [
                ("/", format!("Bearer {other}")),
                (&format!("/?key={other}"), "Bearer x".into()),
                ("/", format!("Basic {credentials}")),
            ] {
                let answer = scene.ask(&[protocol], path, &authorization).await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
                assert!(answer.body.contains("`OTHER`"), "{}", answer.body);
            }
            assert!(scene.seen.all().is_empty());
            let denied = scene.world.denied();
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
            let explicit = exchange(world.explicit().await, request.as_bytes()).await;
            world.resolve(name).await;
            let request = format!("GET / HTTP/1.1\r\n{headers}\r\n\r\n");
            let transparent = exchange(world.http(address).await, request.as_bytes()).await;
            for answer in [explicit, transparent] {
                assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
                assert!(answer.contains(says), "{answer}");
            }
        }
        assert!(seen.all().is_empty());
        assert!(!world.log_text().contains(VALUE));
    });
}

#[test]
fn request_for_other_host_is_misdirected() {
    on_gateway(|| async {
        for protocol in ["http/1.1", "h2"] {
            let scene = Scene::new(&[protocol]).await;
            let stream = scene.connect(&[protocol]).await;
            let answer = ask(stream, "good.test", scene.port, "/", "x").await;
            assert_eq!(
                answer.status,
                StatusCode::MISDIRECTED_REQUEST,
                "{}",
                answer.body
            );
            assert!(scene.seen.all().is_empty());
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
                let scene = Scene::with_server(&trusted, &imposter, &[protocol]).await;
                let authorization = format!("Bearer {}", scene.guest.placeholder);
                let answer = scene.ask(&[protocol], "/", &authorization).await;
                assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
                assert!(answer.body.contains("certificate"), "{}", answer.body);
                assert!(scene.seen.all().is_empty());
                let log = scene.world.log();
                assert!(
                    log.iter()
                        .any(|entry| entry.reason == Some(Reason::Upstream))
                );
            }
        }
    });
}

#[test]
fn intercepted_websocket_passes_bytes() {
    on_gateway(|| async {
        let scene = Scene::new(&["http/1.1"]).await;
        let mut stream = scene.connect(&["http/1.1"]).await;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: api.test:{}\r\nAuthorization: Bearer {}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            scene.port, scene.guest.placeholder
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
        assert!(scene.seen.all()[0].contains(VALUE));
        assert_echoes(&mut stream, b"ping").await;
    });
}

#[test]
fn http2_streams_get_their_own_responses() {
    on_gateway(|| async {
        let scene = Scene::new(&["h2"]).await;
        let stream = scene.connect(&["h2"]).await;
        let (sender, connection) = http2::handshake(LocalExecutor, TokioIo::new(stream))
            .await
            .unwrap();
        tokio::task::spawn_local(connection);
        let mut tasks = Vec::new();
        for number in 0..100 {
            let path = format!("/{number}");
            let request = request(
                true,
                "api.test",
                scene.port,
                &path,
                &scene.guest.placeholder,
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
        let connections = scene
            .world
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
        let answer = ask(stream, "api.test", port, "/", &guest.placeholder).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert!(seen.all()[0].contains(VALUE));
        // The proxy does not intercept another name at the same address.
        let config = client_config(outside.roots(), &[]);
        let stream = tls(world.by_address(address).await, "unlisted.test", config)
            .await
            .unwrap();
        let answer = ask(stream, "unlisted.test", port, "/", &guest.placeholder).await;
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
