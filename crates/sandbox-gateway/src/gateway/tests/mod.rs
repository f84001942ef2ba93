//! Tests of the whole gateway. A second IP stack plays the guest, and the host sockets are real.

mod guest;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread;

use smoltcp::socket::dhcpv4;
use tempfile::TempDir;

use self::guest::Guest;
use super::{Gateway, GatewayConfig, HostPorts};
use crate::policy_engine::{Mode, PolicyEngineConfig};
use crate::request::GatewayRequest;
use sandbox_protocol::gateway::{GatewayCommand, GatewayReply};
use sandbox_spec::guest_network::{GATEWAY, GUEST};
use sandbox_spec::policy::Policy;
use sandbox_spec::publish::PublishedPort;

/// A gateway, and a guest connected to it.
struct Network {
    guest: Guest,
    ssh_port: u16,
    gateway: Gateway,
    log: TempDir,
}

impl Network {
    /// Starts a gateway with a preset and a connection limit.
    fn new(preset: &str, connections: usize) -> Self {
        let log = tempfile::tempdir().unwrap();
        let (wire, guests_end) = UnixStream::pair().unwrap();
        let config = GatewayConfig {
            policy_engine: PolicyEngineConfig {
                policy: Policy {
                    preset: preset.parse().unwrap(),
                    rules: Vec::new(),
                },
                mode: Mode::Open,
                dns: None,
                ipv6: false,
                log_directory: log.path().to_owned(),
            },
            connections,
            bytes_per_second: None,
            secrets: Vec::new(),
            authority: None,
        };
        let ports = HostPorts::bind(&[]).unwrap();
        Self {
            guest: Guest::new(guests_end),
            ssh_port: ports.ssh_port(),
            gateway: Gateway::start(wire, config, ports).unwrap(),
            log,
        }
    }

    /// Sends a command and waits for the reply.
    fn ask(&self, command: GatewayCommand) -> GatewayReply {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.gateway.ask(GatewayRequest { command, reply });
        answer.blocking_recv().unwrap()
    }

    /// Ends the guest. Returns the access log.
    fn finish(self) -> String {
        drop(self.guest);
        self.gateway.finish();
        std::fs::read_to_string(self.log.path().join("access.jsonl")).unwrap()
    }
}

/// Returns the guest's address of a port of the host's loopback.
fn host(port: u16) -> SocketAddr {
    (IpAddr::V4(GATEWAY), port).into()
}

/// Starts a server that answers each request with its bytes reversed. Returns its port.
fn reversing_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || {
                let mut client = client.unwrap();
                let mut request = Vec::new();
                client.read_to_end(&mut request).unwrap();
                request.reverse();
                // The client may be gone.
                let _ = client.write_all(&request);
            });
        }
    });
    port
}

/// Returns bytes that differ by position and seed.
fn content(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index.wrapping_mul(31) ^ (index >> 8) ^ seed) as u8)
        .collect()
}

fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[test]
fn tcp_connection_carries_bytes_after_a_half_close() {
    let mut network = Network::new("all", 1024);
    let port = reversing_server();
    for length in [0, 1, 100_000, 5_000_000] {
        let connection = network.guest.connect(host(port));
        assert!(network.guest.is_established(connection));
        let request = content(length, 0);
        let answer = network.guest.converse(connection, &request);
        assert!(answer == reversed(request), "{length} bytes");
    }
    let log = network.finish();
    assert_eq!(log.lines().count(), 4, "{log}");
    assert!(log.contains("\"up\":5000000,\"down\":5000000"), "{log}");
}

#[test]
fn tcp_connections_in_parallel_keep_their_bytes_apart() {
    let mut network = Network::new("all", 1024);
    let port = reversing_server();
    let connections: Vec<_> = (0..100)
        .map(|_| network.guest.connect(host(port)))
        .collect();
    for (seed, connection) in connections.into_iter().enumerate() {
        assert!(network.guest.is_established(connection));
        let request = content(20_000, seed);
        let answer = network.guest.converse(connection, &request);
        assert!(answer == reversed(request), "connection {seed}");
    }
    network.finish();
}

#[test]
fn tcp_connection_denied_by_the_policy_is_reset_and_logged() {
    let mut network = Network::new("public", 1024);
    let port = reversing_server();
    let connection = network.guest.connect(host(port));
    assert!(!network.guest.is_established(connection));
    let log = network.finish();
    assert!(log.contains("\"verdict\":\"denied\""), "{log}");
    assert!(log.contains("\"address\":\"10.0.2.2\""), "{log}");
}

#[test]
fn tcp_connection_to_a_closed_port_is_reset() {
    let mut network = Network::new("all", 1024);
    // The port is bound but does not listen, so no other test can take it.
    let taken = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&taken, &address).unwrap();
    let port = TcpListener::from(taken).local_addr().unwrap().port();
    let connection = network.guest.connect(host(port));
    assert!(!network.guest.is_established(connection));
    network.finish();
}

#[test]
fn tcp_connection_beyond_the_limit_is_reset_until_another_ends() {
    let mut network = Network::new("all", 3);
    let port = reversing_server();
    let held: Vec<_> = (0..3).map(|_| network.guest.connect(host(port))).collect();
    for connection in &held {
        assert!(network.guest.is_established(*connection));
    }
    let refused = network.guest.connect(host(port));
    assert!(!network.guest.is_established(refused));
    // The host's limit is separate.
    let listening = network.guest.listen(22);
    let ssh_port = network.ssh_port;
    let client = thread::spawn(move || TcpStream::connect(("127.0.0.1", ssh_port)).unwrap());
    assert!(network.guest.is_established(listening));
    drop(client.join().unwrap());
    // The end of a connection makes room, once the guest has acknowledged that end.
    assert!(network.guest.converse(held[0], b"").is_empty());
    loop {
        let connection = network.guest.connect(host(port));
        if network.guest.is_established(connection) {
            break;
        }
    }
    let log = network.finish();
    assert!(log.contains("\"reason\":\"bounds\""), "{log}");
}

#[test]
fn ssh_port_forwards_to_the_guests_port_22() {
    let mut network = Network::new("none", 1024);
    let ssh_port = network.ssh_port;
    let listening = network.guest.listen(22);
    let client = thread::spawn(move || {
        let mut client = TcpStream::connect(("127.0.0.1", ssh_port)).unwrap();
        client.write_all(b"from the host").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    });
    assert!(network.guest.is_established(listening));
    let request = network.guest.converse(listening, b"from the guest");
    assert_eq!(request, b"from the host");
    network
        .guest
        .until("the client's end", |_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap(), b"from the guest");
    // The guest no longer listens.
    let client = thread::spawn(move || {
        let mut client = TcpStream::connect(("127.0.0.1", ssh_port)).unwrap();
        client.read(&mut [0]).map_err(|error| error.kind())
    });
    network
        .guest
        .until("the refusal", |_| client.is_finished().then_some(()));
    let refused = client.join().unwrap();
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionReset));
    network.finish();
}

#[test]
fn udp_datagrams_and_their_answers_pass() {
    let mut network = Network::new("all", 1024);
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok((length, client)) = server.recv_from(&mut buffer) {
            buffer[..length].reverse();
            server.send_to(&buffer[..length], client).unwrap();
        }
    });
    let socket = network.guest.udp(5000);
    for length in [1, 1400, 60_000] {
        let request = content(length, 1);
        network.guest.send_udp(socket, host(port), &request);
        let (answer, from) = network.guest.receive_udp(socket);
        assert!(answer == reversed(request), "{length} bytes");
        assert_eq!(from, host(port));
    }
    network.finish();
}

#[test]
fn udp_port_is_closed_after_port_remove() {
    let mut network = Network::new("none", 1024);
    let socket = network.guest.udp(7);
    let any: PublishedPort = "0:7/udp".parse().unwrap();
    let reply = network.ask(GatewayCommand::PortAdd { port: any });
    let GatewayReply::Ports { ports } = reply else {
        panic!("{reply:?}");
    };
    let port = ports[0];
    // The gateway remembers this client for the guest's answers.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", port.host).unwrap();
    assert_eq!(network.guest.receive_udp(socket).0, b"hello");
    assert!(UdpSocket::bind(port.host).is_err());
    let reply = network.ask(GatewayCommand::PortRemove { port });
    assert_eq!(reply, GatewayReply::Done);
    network
        .guest
        .until("the port to be free", |_| UdpSocket::bind(port.host).ok());
    network.finish();
}

#[test]
fn undelivered_udp_gets_an_icmp_error() {
    for (preset, port, expected) in [
        // Destination unreachable, administratively prohibited.
        ("public", 9, (3, 13)),
        // Destination unreachable, port unreachable: nothing listens on port 1 of the loopback.
        ("all", 1, (3, 3)),
    ] {
        let mut network = Network::new(preset, 1024);
        let socket = network.guest.udp(5000);
        network.guest.send_udp(socket, host(port), b"hello");
        network.guest.until_icmp(expected);
        network.finish();
    }
}

#[test]
fn dhcp_gives_the_guest_its_address() {
    let mut network = Network::new("none", 1024);
    let socket = network.guest.add(dhcpv4::Socket::new());
    let (address, router, dns) = network.guest.until("a lease", |sockets| {
        match sockets.get_mut::<dhcpv4::Socket<'_>>(socket).poll()? {
            dhcpv4::Event::Configured(lease) => {
                Some((lease.address, lease.router, lease.dns_servers.to_vec()))
            }
            dhcpv4::Event::Deconfigured => None,
        }
    });
    assert_eq!(address.to_string(), format!("{GUEST}/24"));
    assert_eq!(router, Some(GATEWAY));
    assert_eq!(dns, [Ipv4Addr::new(10, 0, 2, 3)]);
    network.finish();
}

#[test]
fn gateway_survives_malformed_frames_and_a_syn_flood() {
    let mut network = Network::new("all", 64);
    let port = reversing_server();
    let connection = network.guest.connect(host(port));
    assert!(network.guest.is_established(connection));
    // Frames with a valid beginning and random bytes after it.
    let mut random = 1_u32;
    for round in 0..20_000_u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 14 + (random >> 16) as usize % 120;
        let mut frame = content(length, random as usize);
        frame[12..14].copy_from_slice(match round % 4 {
            0 => &[0x08, 0x06],
            1 => &[0x86, 0xdd],
            _ => &[0x08, 0x00],
        });
        if round % 2 == 0 && length > 34 {
            // A plausible header: version, lengths, protocol and source.
            let total = u16::try_from(length - 14).unwrap().to_be_bytes();
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&total);
            frame[20..22].fill(0);
            frame[23] = [1, 6, 17, 58][(random >> 8) as usize % 4];
            frame[26..30].copy_from_slice(&GUEST.octets());
        }
        network.guest.frames.write(&frame);
    }
    // A flood of a million SYNs, each a new flow, to ports on which nothing listens.
    for destination in 1..=20 {
        for source in 1..=50_000 {
            network.guest.frames.write(&syn(source, destination));
        }
    }
    let answer = network.guest.converse(connection, b"still there");
    assert_eq!(answer, b"ereht llits");
    network.finish();
}

/// Returns a SYN from a guest port to a port of the host's loopback.
fn syn(source: u16, destination: u16) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[17] = 40;
    frame[22] = 64;
    frame[23] = 6;
    frame[26..30].copy_from_slice(&GUEST.octets());
    frame[30..34].copy_from_slice(&GATEWAY.octets());
    frame[34..36].copy_from_slice(&source.to_be_bytes());
    frame[36..38].copy_from_slice(&destination.to_be_bytes());
    frame[46] = 5 << 4;
    frame[47] = 2;
    frame
}
