//! Host ports that are forwarded to the guest.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use serde_json::json;

use super::World;
use super::client::{self, start};
use super::world::HOSTS;
use crate::harness::{DEADLINE, Host, Namespace};

/// Returns the answer of a TCP server to a few bytes.
fn tcp(network: &Namespace, to: &str) -> std::io::Result<String> {
    network.within(|| {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"a word")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// Returns the answer of a UDP server to a datagram.
fn udp(network: &Namespace, to: &str) -> std::io::Result<String> {
    network.within(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.send(b"a datagram")?;
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

fn is_refused(answer: std::io::Result<String>) -> bool {
    answer.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Returns the ports of `sandbox port ls`.
fn published(host: &Host) -> Vec<String> {
    let output = host.run(["port", "ls", "--json"]).success();
    serde_json::from_str(&output.stdout).unwrap()
}

#[test]
fn published_ports_forward_to_guest_and_change_while_it_runs() {
    let Some(world) = World::new() else { return };
    let host = world.host();
    let open = format!("{HOSTS}:8200:8000");
    World::start(
        &host,
        &[
            "--network",
            "none",
            "-p",
            "8100:8000",
            "-p",
            "8101:8001/udp",
            "-p",
            &open,
            "-p",
            "8102:8002",
            "--net-rule",
            "deny:in@loopback:tcp:8002",
        ],
    );
    let servers = [
        json!({"do": "serve", "port": 8000, "udp": false}),
        json!({"do": "serve", "port": 8001, "udp": true}),
        json!({"do": "serve", "port": 8002, "udp": false}),
    ];
    let servers = start(&host, &servers);
    servers.expect_stdout("serving\nserving\nserving\n");

    let got = "the guest got a word";
    assert_eq!(tcp(&world.host, "127.0.0.1:8100").unwrap(), got);
    assert_eq!(
        udp(&world.host, "127.0.0.1:8101").unwrap(),
        "the guest got a datagram"
    );
    // The rule denies this port: nothing reaches the guest.
    assert!(
        tcp(&world.host, "127.0.0.1:8102").is_ok_and(|answer| answer.is_empty())
            || tcp(&world.host, "127.0.0.1:8102").is_err()
    );
    // Other hosts reach only the port that is published on an external address.
    assert_eq!(tcp(&world.outside, &format!("{HOSTS}:8200")).unwrap(), got);
    assert!(is_refused(tcp(&world.outside, &format!("{HOSTS}:8100"))));
    let mut ports = published(&host);
    ports.sort();
    assert_eq!(
        ports,
        [
            "127.0.0.1:8100:8000",
            "127.0.0.1:8101:8001/udp",
            "127.0.0.1:8102:8002",
            "203.0.113.2:8200:8000",
        ]
    );

    let added = host.run(["port", "add", "0:8000", "0:8001/udp"]).success();
    let added: Vec<&str> = added.stdout.lines().collect();
    let [one, other] = added[..] else {
        panic!("{added:?}");
    };
    let address = |port: &str| port.rsplit_once(':').unwrap().0.to_owned();
    assert_eq!(tcp(&world.host, &address(one)).unwrap(), got);
    assert_eq!(
        udp(&world.host, &address(other)).unwrap(),
        "the guest got a datagram"
    );
    assert!(published(&host).contains(&one.to_owned()));
    host.run(["port", "rm", one, other, "8100:8000"]).success();
    assert!(is_refused(tcp(&world.host, &address(one))));
    assert!(is_refused(udp(&world.host, &address(other))));
    assert!(is_refused(tcp(&world.host, "127.0.0.1:8100")));
    assert_eq!(published(&host).len(), 3);

    // A port that is taken, and a port that is not published.
    let output = host.run(["port", "add", "8101:9/udp"]);
    assert_eq!(output.status, 1, "{output}");
    assert!(output.stderr.contains("8101"), "{output}");
    let output = host.run(["port", "rm", "8100:8000"]);
    assert!(output.stderr.contains("is not published"), "{output}");
    let logged = client::logged(&host);
    assert!(
        logged
            .iter()
            .any(|entry| entry["asked"] == "published" && entry["verdict"] == "allowed"),
        "{logged:#?}"
    );
    drop(servers);
    host.stop();
}
