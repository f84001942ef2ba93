//! Exchanges of UDP datagrams and pings. The gateway keeps one host socket for each pair of ends
//! while the pair is in use.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, socket_with,
};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::link::Link;
use super::packet::{self, Packet, Unreachable, checksums};
use super::shaper::{Direction, Shaper};
use crate::access_log::FlowEntry;

/// The most exchanges at once. A new one replaces the one that was silent for longest.
pub(super) const LIMIT: usize = 512;

/// The silence after which an exchange ends.
const IDLE: Duration = Duration::from_secs(60);

/// The most that an exchange keeps of a packet's payload, to quote it in an ICMP error, in bytes.
const QUOTED: usize = 64;

/// The largest datagram that can be received, in bytes.
const LARGEST: usize = 65535;

/// The protocol of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Udp,
    /// Pings. The guest's port is the identifier of its pings, and the remote port is 0.
    Echo,
}

/// The two ends of an exchange, as the guest's packets name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    pub(super) kind: Kind,
    pub(super) guest: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// One exchange, and the task that receives for it.
struct Exchange {
    socket: Rc<UdpSocket>,
    used: Rc<Cell<Instant>>,
    entry: Rc<FlowEntry>,
    /// The beginning of the guest's last payload, for ICMP errors.
    begin: Rc<RefCell<Vec<u8>>>,
    task: AbortHandle,
}

/// All exchanges of the guest.
pub(super) struct Datagrams {
    link: Rc<Link>,
    shaper: Rc<Shaper>,
    exchanges: RefCell<HashMap<Pair, Exchange>>,
    buffer: RefCell<Box<[u8]>>,
}

impl Datagrams {
    pub(super) fn new(link: Rc<Link>, shaper: Rc<Shaper>) -> Self {
        Self {
            link,
            shaper,
            exchanges: RefCell::default(),
            buffer: RefCell::new(vec![0; LARGEST].into()),
        }
    }

    /// Sends the guest's content in an existing exchange. Returns whether the exchange exists.
    pub(super) fn send(&self, pair: Pair, packet: &Packet<'_>, content: &[u8]) -> bool {
        let exchanges = self.exchanges.borrow();
        let Some(exchange) = exchanges.get(&pair) else {
            return false;
        };
        exchange.used.set(Instant::now());
        let mut begin = exchange.begin.borrow_mut();
        begin.clear();
        begin.extend_from_slice(packet.payload.get(..QUOTED).unwrap_or(packet.payload));
        if self.shaper.admits(Direction::Up, content.len()) {
            // A direct call, since the runtime considers a new socket not ready. If it fails, for a
            // full buffer or an earlier error, the datagram is lost.
            if rustix::net::send(&*exchange.socket, content, SendFlags::DONTWAIT).is_ok() {
                exchange.entry.add_up(content.len() as u64);
            }
        }
        true
    }

    /// Begins an exchange with `to`, the host's address of the remote end. `entry` is logged when
    /// the exchange ends.
    ///
    /// # Errors
    ///
    /// If the host has no socket for it, or no route to `to`.
    pub(super) fn begin(
        self: &Rc<Self>,
        pair: Pair,
        to: SocketAddr,
        entry: FlowEntry,
    ) -> io::Result<()> {
        let socket = Rc::new(match pair.kind {
            Kind::Udp => udp_socket(to)?,
            Kind::Echo => echo_socket(to)?,
        });
        self.make_room();
        let used = Rc::new(Cell::new(Instant::now()));
        let entry = Rc::new(entry);
        let begin = Rc::<RefCell<Vec<u8>>>::default();
        let listening = {
            let (datagrams, socket) = (self.clone(), socket.clone());
            let (used, entry, begin) = (used.clone(), entry.clone(), begin.clone());
            async move {
                datagrams.listen(pair, &socket, &used, &entry, &begin).await;
                datagrams.exchanges.borrow_mut().remove(&pair);
            }
        };
        let task = tokio::task::spawn_local(listening).abort_handle();
        let exchange = Exchange {
            socket,
            used,
            entry,
            begin,
            task,
        };
        self.exchanges.borrow_mut().insert(pair, exchange);
        Ok(())
    }

    /// Ends all exchanges for which `ends` returns true.
    pub(super) fn end(&self, mut ends: impl FnMut(&Pair) -> bool) {
        self.exchanges.borrow_mut().retain(|pair, exchange| {
            let over = ends(pair);
            if over {
                exchange.task.abort();
            }
            !over
        });
    }

    /// Ends the exchange that was silent for longest, if there are [`LIMIT`] exchanges.
    fn make_room(&self) {
        let mut exchanges = self.exchanges.borrow_mut();
        if exchanges.len() < LIMIT {
            return;
        }
        let oldest = exchanges.iter().min_by_key(|(_, one)| one.used.get());
        let oldest = oldest.map(|(pair, _)| *pair);
        if let Some(exchange) = oldest.and_then(|pair| exchanges.remove(&pair)) {
            exchange.task.abort();
        }
    }

    /// Delivers datagrams from the remote end, until the exchange was silent for [`IDLE`].
    async fn listen(
        &self,
        pair: Pair,
        socket: &UdpSocket,
        used: &Cell<Instant>,
        entry: &FlowEntry,
        begin: &RefCell<Vec<u8>>,
    ) {
        // An ICMP error about an earlier datagram does not make the socket readable.
        let interest = Interest::READABLE | Interest::ERROR;
        let receive = || {
            let mut buffer = self.buffer.borrow_mut();
            let (_, length) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
            used.set(Instant::now());
            if self.shaper.admits(Direction::Down, length) {
                entry.add_down(length as u64);
                self.deliver(pair, buffer.get(..length).unwrap_or_default());
            }
            Ok(())
        };
        loop {
            tokio::select! {
                received = socket.async_io(interest, receive) => {
                    if let Err(error) = received {
                        self.send_back(pair, &begin.borrow(), &error);
                    }
                }
                () = sleep_until(used.get() + IDLE) => {
                    if used.get().elapsed() >= IDLE {
                        return;
                    }
                }
            }
        }
    }

    /// Answers the guest's last packet with an ICMP "destination unreachable".
    fn send_back(&self, pair: Pair, payload: &[u8], error: &io::Error) {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => Unreachable::Port,
            _ => Unreachable::Host,
        };
        let packet = Packet {
            source: pair.guest.ip(),
            destination: pair.remote.ip(),
            protocol: match (pair.kind, pair.guest) {
                (Kind::Udp, _) => IpProtocol::Udp,
                (Kind::Echo, SocketAddr::V4(_)) => IpProtocol::Icmp,
                (Kind::Echo, SocketAddr::V6(_)) => IpProtocol::Icmpv6,
            },
            whole: &[],
            payload,
        };
        self.link
            .write(|outgoing| packet::unreachable(outgoing, &packet, why));
    }

    /// Sends a received datagram or echo reply to the guest.
    fn deliver(&self, pair: Pair, content: &[u8]) {
        let Pair {
            kind,
            guest,
            remote,
        } = pair;
        self.link.write(|outgoing| match kind {
            Kind::Udp => packet::send_udp(outgoing, remote, guest, content),
            Kind::Echo => match (remote.ip(), guest.ip()) {
                (IpAddr::V4(remote), IpAddr::V4(address)) => {
                    let Ok(message) = Icmpv4Packet::new_checked(content) else {
                        return;
                    };
                    let message = Icmpv4Repr::parse(&message, &checksums());
                    if let Ok(Icmpv4Repr::EchoReply { seq_no, data, .. }) = message {
                        let ident = guest.port();
                        let reply = Icmpv4Repr::EchoReply {
                            ident,
                            seq_no,
                            data,
                        };
                        packet::send_icmp4(outgoing, remote, address, &reply);
                    }
                }
                (IpAddr::V6(remote), IpAddr::V6(address)) => {
                    let Ok(message) = Icmpv6Packet::new_checked(content) else {
                        return;
                    };
                    let message = Icmpv6Repr::parse(&remote, &address, &message, &checksums());
                    if let Ok(Icmpv6Repr::EchoReply { seq_no, data, .. }) = message {
                        let ident = guest.port();
                        let reply = Icmpv6Repr::EchoReply {
                            ident,
                            seq_no,
                            data,
                        };
                        packet::send_icmp6(outgoing, remote, address, 64, &reply);
                    }
                }
                _ => {}
            },
        });
    }
}

fn unspecified(family: SocketAddr) -> SocketAddr {
    match family {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn udp_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(unspecified(to))?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    UdpSocket::from_std(socket)
}

/// Opens a socket for pings. Linux gives it to the groups of `net.ipv4.ping_group_range` (icmp(7)).
/// Its calls are those of a UDP socket.
fn echo_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = match to {
        SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(protocol))?;
    let socket = std::net::UdpSocket::from(socket);
    socket.connect(to)?;
    UdpSocket::from_std(socket)
}
