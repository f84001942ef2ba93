//! A guest for tests: a second IP stack at QEMU's end of the wire.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{AnySocket, tcp, udp};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use sandbox_spec::guest_network::{GATEWAY, GUEST, GUEST_MAC, MTU, NETWORK};

/// The time limit for each wait, far more than a busy machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

/// The guest's end of the wire, which sends and receives frames.
pub(super) struct Frames {
    wire: UnixStream,
    unread: Vec<u8>,
    received: VecDeque<Vec<u8>>,
    /// The types and codes of the received ICMP messages.
    pub(super) icmp: Vec<(u8, u8)>,
}

/// Returns the type and code of the ICMP message in a frame, if there is one.
fn icmp(frame: &[u8]) -> Option<(u8, u8)> {
    let is_icmp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 1;
    is_icmp.then_some((*frame.get(34)?, *frame.get(35)?))
}

impl Frames {
    pub(super) fn new(wire: UnixStream) -> Self {
        wire.set_nonblocking(true).unwrap();
        Self {
            wire,
            unread: Vec::new(),
            received: VecDeque::new(),
            icmp: Vec::new(),
        }
    }

    /// Writes bytes without a length before them, and waits until the gateway takes them.
    fn write_raw(&mut self, mut bytes: &[u8]) {
        let begin = Instant::now();
        while !bytes.is_empty() {
            match self.wire.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(begin.elapsed() < DEADLINE, "the gateway does not read");
                    self.read();
                    thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) fn write(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap();
        self.write_raw(&[&length.to_be_bytes()[..], frame].concat());
    }

    /// Receives all available frames.
    fn read(&mut self) {
        let mut buffer = [0; 65536];
        while let Ok(count) = self.wire.read(&mut buffer) {
            if count == 0 {
                break;
            }
            self.unread.extend_from_slice(&buffer[..count]);
        }
        while let Some(prefix) = self.unread.first_chunk::<4>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            let Some(frame) = self.unread.get(4..4 + length) else {
                break;
            };
            self.icmp.extend(icmp(frame));
            self.received.push_back(frame.to_vec());
            self.unread.drain(..4 + length);
        }
    }
}

impl Device for Frames {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Received, Sending<'_>)> {
        self.read();
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(MTU) + 14;
        capabilities
    }
}

pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

pub(super) struct Sending<'a>(&'a mut Frames);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.write(&frame);
        result
    }
}

/// A guest with an IPv4 address and a route.
pub(super) struct Guest {
    pub(super) frames: Frames,
    interface: Interface,
    sockets: SocketSet<'static>,
    begin: Instant,
    next_port: u16,
}

impl Guest {
    pub(super) fn new(wire: UnixStream) -> Self {
        let mut frames = Frames::new(wire);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(GUEST_MAC)));
        config.random_seed = 1;
        let mut interface = Interface::new(config, &mut frames, SmolInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let own = IpCidr::new(IpAddr::V4(GUEST).into(), NETWORK.prefix_len());
            addresses.push(own).unwrap();
        });
        interface
            .routes_mut()
            .add_default_ipv4_route(GATEWAY)
            .unwrap();
        Self {
            frames,
            interface,
            sockets: SocketSet::new(Vec::new()),
            begin: Instant::now(),
            next_port: 40000,
        }
    }

    /// Runs the guest until `done` returns a value.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut SocketSet<'static>) -> Option<T>,
    ) -> T {
        let begin = Instant::now();
        loop {
            let now = SmolInstant::from_micros(self.begin.elapsed().as_micros() as i64);
            self.interface
                .poll(now, &mut self.frames, &mut self.sockets);
            if let Some(result) = done(&mut self.sockets) {
                return result;
            }
            assert!(begin.elapsed() < DEADLINE, "timed out waiting for {what}");
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Runs the guest until it has received an ICMP message of this type and code.
    pub(super) fn until_icmp(&mut self, message: (u8, u8)) {
        let begin = Instant::now();
        while !self.frames.icmp.contains(&message) {
            assert!(begin.elapsed() < DEADLINE, "{:?}", self.frames.icmp);
            self.until("nothing", |_| Some(()));
        }
    }

    pub(super) fn add(&mut self, socket: impl AnySocket<'static>) -> SocketHandle {
        self.sockets.add(socket)
    }

    fn tcp_socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 128 << 10]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// Begins a TCP connection.
    pub(super) fn connect(&mut self, remote: SocketAddr) -> SocketHandle {
        self.next_port += 1;
        let local = (IpAddr::V4(GUEST), self.next_port);
        let handle = self.tcp_socket();
        self.sockets
            .get_mut::<tcp::Socket<'_>>(handle)
            .connect(self.interface.context(), remote, local)
            .unwrap();
        handle
    }

    /// Waits until a connection is established or refused. Returns whether it is established.
    pub(super) fn is_established(&mut self, handle: SocketHandle) -> bool {
        self.until("the connection", |sockets| {
            match sockets.get::<tcp::Socket<'_>>(handle).state() {
                tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived => None,
                tcp::State::Closed => Some(false),
                _ => Some(true),
            }
        })
    }

    /// Sends a request and its end. Returns the bytes received until the other side's end.
    pub(super) fn converse(&mut self, handle: SocketHandle, request: &[u8]) -> Vec<u8> {
        let mut sent = 0;
        let mut answer = Vec::new();
        self.until("the end of the conversation", |sockets| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            if socket.can_send() {
                sent += socket.send_slice(&request[sent..]).unwrap();
                if sent == request.len() {
                    socket.close();
                }
            }
            while socket.can_recv() {
                socket
                    .recv(|bytes| {
                        answer.extend_from_slice(bytes);
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            (!socket.may_recv()).then_some(())
        });
        answer
    }

    /// Accepts one TCP connection at a port.
    pub(super) fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.tcp_socket();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.listen(port).unwrap();
        handle
    }

    pub(super) fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 256 << 10]);
        let handle = self.sockets.add(udp::Socket::new(buffer(), buffer()));
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        socket.bind(port).unwrap();
        handle
    }

    pub(super) fn send_udp(&mut self, handle: SocketHandle, remote: SocketAddr, content: &[u8]) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        socket.send_slice(content, remote).unwrap();
    }

    pub(super) fn receive_udp(&mut self, handle: SocketHandle) -> (Vec<u8>, SocketAddr) {
        self.until("a datagram", |sockets| {
            let socket = sockets.get_mut::<udp::Socket<'_>>(handle);
            let (content, metadata) = socket.recv().ok()?;
            let from = SocketAddr::new(metadata.endpoint.addr.into(), metadata.endpoint.port);
            Some((content.to_vec(), from))
        })
    }
}
