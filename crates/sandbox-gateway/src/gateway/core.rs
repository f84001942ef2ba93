//! Parses the guest's frames and dispatches their packets to the flows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream as StdStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::WriteHalf;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::datagrams::Datagrams;
use super::link::Link;
use super::neighbors::{self, DHCP_SERVER};
use super::packet::{self, Packet, Unreachable};
use super::published_ports::PublishedPorts;
use super::shaper::Shaper;
use super::tcp::Table;
use super::wire::{FrameTooLarge, Incoming};
use crate::interception::Interceptor;
use crate::policy_engine::{Destination, PolicyEngine};
use crate::proxy::Proxy;
use crate::request::GatewayRequest;
use sandbox_spec::guest_network;
use sandbox_spec::policy::Transport;

/// Times of the first router advertisements, in seconds after the start. There are several, since
/// a restored guest misses the first ones.
const ADVERTISE_AT: [u64; 5] = [0, 1, 2, 5, 15];

/// The interval of the later router advertisements, in seconds.
const ADVERTISE_EACH: u64 = 300;

/// The gateway's sleep while no TCP timer is set.
const IDLE: Duration = Duration::from_secs(3600);

/// The most DNS questions in progress at once. Beyond that, questions by UDP are lost, and clients
/// retry. Questions by TCP wait.
const MOST_QUESTIONS: usize = 128;

/// The state of the gateway, shared by its tasks.
pub(super) struct Core {
    pub(super) policy_engine: Rc<PolicyEngine>,
    pub(super) link: Rc<Link>,
    pub(super) tcp: Rc<Table>,
    pub(super) shaper: Rc<Shaper>,
    pub(super) published: PublishedPorts,
    pub(super) questions: Arc<Semaphore>,
    pub(super) datagrams: Rc<Datagrams>,
    pub(super) proxy: Proxy,
    pub(super) has_ipv6: bool,
}

impl Core {
    pub(super) fn new(
        policy_engine: Rc<PolicyEngine>,
        interceptor: Option<Interceptor>,
        connections: usize,
        bytes_per_second: Option<u64>,
        has_ipv6: bool,
    ) -> io::Result<Rc<Self>> {
        let mut seed = [0; 8];
        getrandom(&mut seed, GetRandomFlags::empty())?;
        let link = Rc::new(Link::new(u64::from_ne_bytes(seed)));
        let shaper = Rc::new(Shaper::new(bytes_per_second));
        Ok(Rc::new(Self {
            proxy: Proxy::new(policy_engine.clone(), interceptor),
            policy_engine,
            tcp: Rc::new(Table::new(link.clone(), connections)),
            datagrams: Rc::new(Datagrams::new(link.clone(), shaper.clone())),
            link,
            shaper,
            published: PublishedPorts::default(),
            questions: Arc::new(Semaphore::new(MOST_QUESTIONS)),
            has_ipv6,
        }))
    }

    /// Serves the guest until QEMU closes its end of the wire.
    pub(super) async fn run(
        self: Rc<Self>,
        wire: StdStream,
        mut requests: mpsc::UnboundedReceiver<GatewayRequest>,
    ) {
        let serving = async {
            let wire = UnixStream::from_std(wire)?;
            self.move_frames(wire).await
        };
        tokio::select! {
            ended = serving => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "the guest's network failed");
                }
            }
            () = self.advertise(), if self.has_ipv6 => {}
            () = self.obey(&mut requests) => {}
        }
    }

    async fn advertise(&self) {
        let begin = Instant::now();
        let later = (1..).map(|round| round * ADVERTISE_EACH);
        for seconds in ADVERTISE_AT.into_iter().chain(later) {
            sleep_until(begin + Duration::from_secs(seconds)).await;
            self.link.write(neighbors::advertise_router);
        }
    }

    /// Reads frames from QEMU and writes frames to it, until QEMU closes its end.
    async fn move_frames(self: &Rc<Self>, mut wire: UnixStream) -> io::Result<()> {
        let (mut reader, writer) = wire.split();
        let mut incoming = Incoming::new();
        let mut alarm = pin!(sleep(IDLE));
        loop {
            let unsent = self.link.write(|outgoing| !outgoing.unsent().is_empty());
            // The alarm only moves earlier until it fires. Each reset costs the runtime two
            // system calls, and each segment moves the next timer.
            if let Some(timer) = self.tcp.next_timer()
                && timer < alarm.deadline()
            {
                alarm.as_mut().reset(timer);
            }
            tokio::select! {
                // Cancellation loses nothing: `incoming` keeps the part of a frame that was read.
                read = reader.read_buf(incoming.space()) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.take(&mut incoming).map_err(io::Error::other)?;
                }
                writable = writer.writable(), if unsent => writable?,
                () = self.link.written(), if !unsent => {}
                () = &mut alarm => alarm.as_mut().reset(Instant::now() + IDLE),
            }
            self.tcp.speak_all_that_heard();
            self.tcp.speak_all_that_are_due();
            self.send(&writer)?;
        }
    }

    fn take(self: &Rc<Self>, incoming: &mut Incoming) -> Result<(), FrameTooLarge> {
        while let Some(frame) = incoming.next()? {
            self.frame(frame);
        }
        Ok(())
    }

    /// Sends as much as QEMU takes. After each write, connections that waited for room continue.
    fn send(&self, wire: &WriteHalf<'_>) -> io::Result<()> {
        loop {
            let sent = self.link.write(|outgoing| {
                if outgoing.unsent().is_empty() {
                    return io::Result::Ok(0);
                }
                let sent = wire.try_write(outgoing.unsent())?;
                outgoing.advance(sent);
                Ok(sent)
            });
            match sent {
                Ok(0) => return Ok(()),
                Ok(_) => self.tcp.speak_all_that_waited(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Handles one frame from the guest.
    pub(super) fn frame(self: &Rc<Self>, bytes: &[u8]) {
        let Ok(frame) = EthernetFrame::new_checked(bytes) else {
            return;
        };
        let packet = match frame.ethertype() {
            EthernetProtocol::Arp => {
                self.link
                    .write(|outgoing| neighbors::answer_arp(outgoing, frame.payload()));
                None
            }
            EthernetProtocol::Ipv4 => Packet::v4(frame.payload()),
            EthernetProtocol::Ipv6 => Packet::v6(frame.payload()),
            EthernetProtocol::Unknown(_) => None,
        };
        if let Some(packet) = packet {
            self.packet(&packet);
        }
    }

    fn packet(self: &Rc<Self>, packet: &Packet<'_>) {
        // Before the source check: a guest that asks for an address does not have one yet.
        if let Some((_, server, content)) = packet.udp_if_any()
            && server.port() == DHCP_SERVER
            && server.is_ipv4()
        {
            self.link
                .write(|outgoing| neighbors::answer_dhcp(outgoing, content));
            return;
        }
        if !guest_network::is_guests(packet.source) {
            return;
        }
        match packet.protocol {
            IpProtocol::Tcp => self.segment(packet),
            IpProtocol::Udp => self.datagram(packet),
            IpProtocol::Icmp => self.icmp4(packet),
            IpProtocol::Icmpv6 => self.icmp6(packet),
            _ if is_to_many(packet.destination) => {}
            _ => self.send_back(packet, Unreachable::Prohibited),
        }
    }

    /// Answers a packet from the guest with an ICMP "destination unreachable".
    pub(super) fn send_back(&self, packet: &Packet<'_>, why: Unreachable) {
        self.link
            .write(|outgoing| packet::unreachable(outgoing, packet, why));
    }
}

pub(super) fn destination(remote: SocketAddr, transport: Transport) -> Destination {
    Destination {
        address: remote.ip(),
        port: remote.port(),
        transport,
    }
}

/// Returns whether an address is multicast or broadcast. No host answers there.
pub(super) fn is_to_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_multicast()
                || address == Ipv4Addr::BROADCAST
                || address == guest_network::NETWORK.broadcast()
        }
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Returns whether the host has a route to the IPv6 internet. Connecting a UDP socket only looks up
/// the route and sends nothing.
pub(super) fn host_has_ipv6() -> bool {
    let anywhere = "[2000::1]:53";
    std::net::UdpSocket::bind("[::]:0").is_ok_and(|socket| socket.connect(anywhere).is_ok())
}
