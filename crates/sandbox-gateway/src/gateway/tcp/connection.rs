//! One TCP connection of the guest, terminated by smoltcp. Each connection has its own smoltcp
//! interface with one address. So the cost of a segment does not depend on the number of
//! connections.

use std::net::SocketAddr;

use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet, SocketStorage,
};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::super::packet::checksums;
use super::super::wire::Outgoing;
use sandbox_spec::guest_network::MTU;

/// The size of each of a connection's two buffers, in bytes: four of the largest packets. Pages
/// that are never written take no memory.
pub(in super::super) const BUFFER: usize = 256 << 10;

/// How long the guest may be silent while a connection opens or closes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The interval of keep-alive probes on a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

/// The two ends of a connection, as the guest's packets name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) struct Ends {
    pub(in super::super) guest: SocketAddr,
    pub(in super::super) remote: SocketAddr,
}

/// The next needs of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    /// The connection has segments to send and found no room for them.
    pub(super) room: bool,
    /// The time of the next call of [`Connection::send`].
    pub(super) timer: Option<Instant>,
    /// The connection has ended.
    pub(super) over: bool,
}

/// A TCP connection of the guest.
pub(super) struct Connection {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    farewell: Option<Farewell>,
}

/// The end of an abandoned connection.
struct Farewell {
    /// The bytes that the guest had not acknowledged at the last check.
    unsent: usize,
    /// The time of the reset, unless the guest acknowledges more bytes.
    until: Instant,
}

impl Connection {
    /// Creates a connection that waits for the guest's SYN. `seed` must be random.
    pub(super) fn accepting(ends: Ends, seed: u64, now: Instant) -> Self {
        let mut connection = Self::new(ends, seed, now);
        // This cannot fail: the socket is closed, and the port is not 0.
        let listening = connection.socket().listen(ends.remote);
        debug_assert!(listening.is_ok());
        connection
    }

    /// Creates a connection that the gateway opens to the guest. `seed` must be random.
    pub(super) fn opening(ends: Ends, seed: u64, now: Instant) -> Self {
        let mut connection = Self::new(ends, seed, now);
        let socket = connection
            .sockets
            .get_mut::<tcp::Socket<'_>>(connection.handle);
        let opened = socket.connect(connection.interface.context(), ends.guest, ends.remote);
        debug_assert!(opened.is_ok());
        connection
    }

    fn new(ends: Ends, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut Wire::silent(), now);
        interface.update_ip_addrs(|addresses| {
            let length = if ends.remote.is_ipv4() { 32 } else { 128 };
            // This cannot fail: the list has room for two addresses.
            let _ = addresses.push(IpCidr::new(ends.remote.ip().into(), length));
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(PATIENCE));
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        Self {
            interface,
            sockets,
            handle,
            farewell: None,
        }
    }

    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Handles a packet from the guest.
    pub(super) fn receive(&mut self, now: Instant, packet: &[u8], outgoing: &mut Outgoing) {
        let mut wire = Wire {
            packet: Some(packet),
            outgoing: Some(outgoing),
            full: false,
        };
        while self
            .interface
            .poll_ingress_single(now, &mut wire, &mut self.sockets)
            != PollIngressSingleResult::None
        {}
    }

    /// Sends all segments that are due, as far as there is room.
    pub(super) fn send(&mut self, now: Instant, outgoing: &mut Outgoing) -> Needs {
        self.reset_if_stalled(now);
        let mut wire = Wire {
            packet: None,
            outgoing: Some(outgoing),
            full: false,
        };
        while self
            .interface
            .poll_egress(now, &mut wire, &mut self.sockets)
            == PollResult::SocketStateChanged
        {}
        let room = wire.full;
        let timer = if room {
            None
        } else {
            let until = self.farewell.as_ref().map(|farewell| farewell.until);
            let timers = [self.interface.poll_at(now, &self.sockets), until];
            timers.into_iter().flatten().min()
        };
        Needs {
            room,
            timer,
            // TIME-WAIT exists for a last acknowledgement that gets lost. Nothing gets lost on the
            // way to the guest.
            over: !room
                && matches!(
                    self.socket().state(),
                    tcp::State::Closed | tcp::State::TimeWait
                ),
        }
    }

    /// Removes the time limit of the handshake: an established connection may be silent forever.
    pub(super) fn established(&mut self) {
        let socket = self.socket();
        socket.set_timeout(None);
        // A guest that no longer knows the connection answers the probe with a reset.
        socket.set_keep_alive(Some(KEEP_ALIVE));
    }

    /// Closes a connection that the gateway no longer reads or writes. Written bytes are still
    /// delivered, as long as the guest acknowledges some within [`PATIENCE`].
    pub(super) fn abandon(&mut self, now: Instant) {
        let socket = self.socket();
        socket.close();
        self.farewell = Some(Farewell {
            unsent: socket.send_queue(),
            until: now + PATIENCE,
        });
    }

    /// Resets an abandoned connection if the guest acknowledges nothing in time.
    fn reset_if_stalled(&mut self, now: Instant) {
        let unsent = self.socket().send_queue();
        let Some(farewell) = &mut self.farewell else {
            return;
        };
        if unsent < farewell.unsent {
            farewell.until = now + PATIENCE;
            farewell.unsent = unsent;
        } else if now >= farewell.until {
            self.farewell = None;
            self.socket().abort();
        }
    }
}

/// The network device of a connection's interface. It receives at most one packet, and sends to
/// QEMU.
struct Wire<'a> {
    packet: Option<&'a [u8]>,
    outgoing: Option<&'a mut Outgoing>,
    full: bool,
}

impl Wire<'_> {
    fn silent() -> Self {
        Self {
            packet: None,
            outgoing: None,
            full: false,
        }
    }
}

impl Device for Wire<'_> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Sending<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let packet = self.packet.take()?;
        let outgoing = self.outgoing.as_deref_mut()?;
        // Without room for an answer, the packet is lost. The guest retransmits it.
        outgoing
            .has_room_for_urgent()
            .then_some((Received(packet), Sending(outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        let outgoing = self.outgoing.as_deref_mut()?;
        if outgoing.has_room() {
            Some(Sending(outgoing))
        } else {
            self.full = true;
            None
        }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU.into();
        capabilities.checksum = checksums();
        capabilities
    }
}

struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

struct Sending<'a>(&'a mut Outgoing);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        self.0.packet(length, fill)
    }
}
