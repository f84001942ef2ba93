//! From frames to flows: what the guest sends is taken apart here, and each
//! new flow is put before the gate.

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol,
};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::datagrams::{Datagrams, Kind, Pair};
use super::link::Link;
use super::neighbors::{self, DHCP_SERVER};
use super::packet::{self, Packet, Unreachable, checksums};
use super::ports::{PortError, Ports};
use super::questions;
use super::relay::relay;
use super::shaper::{Shaped, Shaper};
use super::tcp::{Arrival, Ends, GuestStream, Table};
use super::wire::{FrameTooLarge, Incoming};
use crate::network::access_log::{FlowEntry, FlowStart};
use crate::network::doors::Doors;
use crate::network::gate::{Asked, Gate};
use crate::network::intercept::Interceptor;
use crate::network::layout;
use crate::network::policy::{Reason, RuleName, Transport, Verdict};
use crate::network::request::{GatewayCommand, GatewayReply, GatewayRequest};

/// How long a host may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(60);

/// How long the guest may take for its part of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// When the guest is told that there is IPv6, in seconds from the start: a
/// restored guest hears nothing at first. Then once in [`ADVERTISE_EACH`].
const ADVERTISE_AT: [u64; 5] = [0, 1, 2, 5, 15];
const ADVERTISE_EACH: u64 = 300;

/// The gateway.
pub(super) struct Core {
    pub(super) gate: Rc<Gate>,
    pub(super) link: Rc<Link>,
    pub(super) tcp: Rc<Table>,
    pub(super) shaper: Rc<Shaper>,
    pub(super) ports: Ports,
    pub(super) questions: Arc<Semaphore>,
    datagrams: Rc<Datagrams>,
    doors: Doors,
    has_ipv6: bool,
}

impl Core {
    pub(super) fn new(
        gate: Rc<Gate>,
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
            doors: Doors::new(gate.clone(), interceptor),
            gate,
            tcp: Rc::new(Table::new(link.clone(), connections)),
            datagrams: Rc::new(Datagrams::new(link.clone(), shaper.clone())),
            link,
            shaper,
            ports: Ports::default(),
            questions: Arc::new(Semaphore::new(questions::AT_ONCE)),
            has_ipv6,
        }))
    }

    /// Serves the guest until QEMU closes its end.
    pub(super) async fn run(
        self: Rc<Self>,
        wire: StdStream,
        mut requests: mpsc::UnboundedReceiver<GatewayRequest>,
    ) {
        let serving = async {
            let wire = UnixStream::from_std(wire)?;
            self.move_frames(&wire).await
        };
        tokio::select! {
            ended = serving => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "the guest's network has failed");
                }
            }
            () = self.advertise(), if self.has_ipv6 => {}
            () = self.obey(&mut requests) => {}
        }
    }

    async fn obey(self: &Rc<Self>, requests: &mut mpsc::UnboundedReceiver<GatewayRequest>) {
        while let Some(GatewayRequest { command, reply }) = requests.recv().await {
            // Who asked may be gone by now.
            let _ = reply.send(self.answer(command));
        }
        // Nobody asks any more; the guest still has its network.
        pending().await
    }

    fn answer(self: &Rc<Self>, command: GatewayCommand) -> GatewayReply {
        match command {
            GatewayCommand::AllowOnce { pattern } => {
                self.gate.allow_until_stop(pattern);
                GatewayReply::Done
            }
            GatewayCommand::Cut => {
                self.cut();
                GatewayReply::Done
            }
            GatewayCommand::PortAdd { port } => match self.add_port(&port) {
                Ok(port) => GatewayReply::Ports { ports: vec![port] },
                Err(error) => refusal(&error),
            },
            GatewayCommand::PortRemove { port } => match self.remove_port(&port) {
                Ok(()) => GatewayReply::Done,
                Err(error) => refusal(&error),
            },
            GatewayCommand::PortList => GatewayReply::Ports {
                ports: self.list_ports(),
            },
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

    /// Moves frames in both directions.
    async fn move_frames(self: &Rc<Self>, wire: &UnixStream) -> io::Result<()> {
        let mut incoming = Incoming::new();
        loop {
            let unsent = self.link.write(|outgoing| !outgoing.unsent().is_empty());
            let interest = if unsent {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            let timer = self.tcp.next_timer();
            tokio::select! {
                ready = wire.ready(interest) => { ready?; }
                () = self.link.written(), if !unsent => {}
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {}
            }
            match wire.try_read_buf(incoming.space()) {
                Ok(0) => return Ok(()),
                Ok(_) => self.take(&mut incoming).map_err(io::Error::other)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.tcp.speak_all_that_heard();
            self.tcp.speak_all_that_are_due();
            self.send(wire)?;
        }
    }

    fn take(self: &Rc<Self>, incoming: &mut Incoming) -> Result<(), FrameTooLarge> {
        while let Some(frame) = incoming.next()? {
            self.frame(frame);
        }
        Ok(())
    }

    /// Sends as much as QEMU takes, and lets those write on who waited for it.
    fn send(&self, wire: &UnixStream) -> io::Result<()> {
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

    /// Takes one frame of the guest's.
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
        // A guest without an address yet asks for one.
        if let Some((_, server, content)) = packet.udp_if_any()
            && server.port() == DHCP_SERVER
            && server.is_ipv4()
        {
            self.link
                .write(|outgoing| neighbors::answer_dhcp(outgoing, content));
            return;
        }
        if !layout::is_guests(packet.source) {
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

    fn send_back(&self, packet: &Packet<'_>, why: Unreachable) {
        self.link
            .write(|outgoing| packet::unreachable(outgoing, packet, why));
    }

    fn segment(self: &Rc<Self>, packet: &Packet<'_>) {
        let Some(segment) = packet.tcp() else { return };
        let Arrival::New(ends) = self.tcp.segment(packet, &segment) else {
            return;
        };
        let refuse = || {
            self.link
                .write(|outgoing| packet::reset(outgoing, packet, &segment));
        };
        if is_to_many(ends.remote.ip()) {
            return refuse();
        }
        let flow = FlowStart::to_address(ends.remote, Transport::Tcp);
        if self.tcp.is_full() {
            self.gate.denied(flow, &RuleName::Bounds, Reason::Bounds);
            return refuse();
        }
        if layout::is_dns(ends.remote) {
            let stream = self.tcp.accept(ends, packet.whole);
            let core = self.clone();
            tokio::task::spawn_local(established(stream, |stream| core.questions(stream)));
            return;
        }
        if layout::is_proxy(ends.remote) && self.gate.is_proxy() {
            let serve = move |doors: Doors, stream: Shaped| async move {
                doors.explicit(stream).await;
            };
            return self.look_into(ends, packet, serve);
        }
        match self.gate.outbound(&asked(ends.remote, Transport::Tcp)) {
            Verdict::Inspect => {
                let serve = move |doors: Doors, stream: Shaped| async move {
                    doors.transparent(stream, ends.remote).await;
                };
                self.look_into(ends, packet, serve);
            }
            Verdict::Allow { to, rule, .. } if self.doors.inspects(ends.remote) => {
                let serve = move |doors: Doors, stream: Shaped| async move {
                    doors
                        .allowed_by_address(stream, ends.remote, to, rule)
                        .await;
                };
                self.look_into(ends, packet, serve);
            }
            Verdict::Allow { to, rule, name } => {
                self.tcp.offer(ends);
                let flow = FlowStart { name, ..flow };
                let entry = self.gate.open(flow, &rule);
                let syn = Syn::keep(packet);
                tokio::task::spawn_local(self.clone().connect(ends, syn, to, entry));
            }
            Verdict::Deny { rule, reason } => {
                self.gate.denied(flow, &rule, reason);
                refuse();
            }
        }
    }

    /// Accepts a connection whose first bytes decide where it goes.
    fn look_into<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        ends: Ends,
        packet: &Packet<'_>,
        serve: impl FnOnce(Doors, Shaped) -> F + 'static,
    ) {
        let stream = self.tcp.accept(ends, packet.whole);
        let (doors, shaper) = (self.doors.clone(), self.shaper.clone());
        let serve = |stream| serve(doors, Shaped::new(stream, shaper));
        tokio::task::spawn_local(established(stream, serve));
    }

    /// Connects the guest with the host that it asked for.
    async fn connect(self: Rc<Self>, ends: Ends, syn: Syn, to: SocketAddr, entry: FlowEntry) {
        let host = match timeout(CONNECT, TcpStream::connect(to)).await {
            Ok(Ok(host)) => host,
            failed => {
                self.tcp.withdraw(ends);
                let refused = matches!(&failed, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused);
                syn.answer(&self.link, refused);
                return;
            }
        };
        // Nothing is gained by waiting: the guest's own kernel has waited.
        let _ = host.set_nodelay(true);
        let guest = self.tcp.accept(ends, &syn.0);
        if !matches!(timeout(HANDSHAKE, guest.established()).await, Ok(Ok(()))) {
            guest.reset();
            return;
        }
        let denied = self.denied_later(ends.remote);
        relay(&guest, &host, &self.shaper, Some(&entry), denied).await;
    }

    /// Waits until connections are to be cut and the policy allows this one no
    /// more.
    async fn denied_later(&self, remote: SocketAddr) {
        let mut cut = self.gate.cut();
        while cut.changed().await.is_ok() {
            let verdict = self.gate.outbound(&asked(remote, Transport::Tcp));
            if !matches!(verdict, Verdict::Allow { .. }) {
                return;
            }
        }
        pending().await
    }

    fn datagram(self: &Rc<Self>, packet: &Packet<'_>) {
        let Some((guest, remote, content)) = packet.udp() else {
            return;
        };
        if layout::is_dns(remote) {
            return self.question(guest, remote, content);
        }
        if is_to_many(remote.ip()) || self.ports.answer(remote, guest.port(), content) {
            return;
        }
        let pair = Pair {
            kind: Kind::Udp,
            guest,
            remote,
        };
        self.exchange(pair, packet, content, Transport::Udp);
    }

    /// Sends a datagram or a ping on its way, if it is allowed to.
    fn exchange(
        self: &Rc<Self>,
        pair: Pair,
        packet: &Packet<'_>,
        content: &[u8],
        transport: Transport,
    ) {
        if self.datagrams.send(pair, packet, content) {
            return;
        }
        let flow = FlowStart::to_address(pair.remote, transport);
        let verdict = self.gate.outbound(&asked(pair.remote, transport));
        let verdict = match verdict {
            // QUIC would pass by whoever puts the secrets in.
            Verdict::Allow { .. } if pair.kind == Kind::Udp && self.doors.inspects(pair.remote) => {
                Verdict::Deny {
                    rule: RuleName::Secrets,
                    reason: Reason::Quic,
                }
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Allow { to, rule, name } => {
                let entry = self.gate.open(FlowStart { name, ..flow }, &rule);
                match self.datagrams.begin(pair, to, entry) {
                    Ok(()) => drop(self.datagrams.send(pair, packet, content)),
                    Err(error) => {
                        tracing::debug!(%error, ?pair, "the host sends no such datagrams");
                        self.send_back(packet, Unreachable::Host);
                    }
                }
            }
            Verdict::Inspect => {}
            Verdict::Deny { rule, reason } => {
                self.gate.denied(flow, &rule, reason);
                self.send_back(packet, Unreachable::Prohibited);
            }
        }
    }

    fn icmp4(self: &Rc<Self>, packet: &Packet<'_>) {
        let (IpAddr::V4(guest), IpAddr::V4(remote)) = (packet.source, packet.destination) else {
            return;
        };
        let Ok(message) = Icmpv4Packet::new_checked(packet.payload) else {
            return;
        };
        let Ok(Icmpv4Repr::EchoRequest {
            ident,
            seq_no,
            data,
        }) = Icmpv4Repr::parse(&message, &checksums())
        else {
            return;
        };
        if layout::is_gateways(packet.destination) {
            let reply = Icmpv4Repr::EchoReply {
                ident,
                seq_no,
                data,
            };
            self.link
                .write(|outgoing| packet::send_icmp4(outgoing, remote, guest, &reply));
        } else {
            self.ping(packet, ident);
        }
    }

    fn icmp6(self: &Rc<Self>, packet: &Packet<'_>) {
        let (IpAddr::V6(guest), IpAddr::V6(remote)) = (packet.source, packet.destination) else {
            return;
        };
        let Ok(message) = Icmpv6Packet::new_checked(packet.payload) else {
            return;
        };
        match Icmpv6Repr::parse(&guest, &remote, &message, &checksums()) {
            Ok(Icmpv6Repr::Ndisc(question)) => self.link.write(|outgoing| {
                neighbors::answer_discovery(outgoing, guest, &question, self.has_ipv6);
            }),
            Ok(Icmpv6Repr::EchoRequest {
                ident,
                seq_no,
                data,
            }) if layout::is_gateways(packet.destination) => {
                let reply = Icmpv6Repr::EchoReply {
                    ident,
                    seq_no,
                    data,
                };
                self.link.write(|outgoing| {
                    packet::send_icmp6(outgoing, remote, guest, packet::HOP_LIMIT, &reply);
                });
            }
            Ok(Icmpv6Repr::EchoRequest { ident, .. }) => self.ping(packet, ident),
            _ => {}
        }
    }

    fn ping(self: &Rc<Self>, packet: &Packet<'_>, ident: u16) {
        if is_to_many(packet.destination) {
            return;
        }
        let pair = Pair {
            kind: Kind::Echo,
            guest: SocketAddr::new(packet.source, ident),
            remote: SocketAddr::new(packet.destination, 0),
        };
        self.exchange(pair, packet, packet.payload, Transport::Icmp);
    }

    /// Ends what the policy does not allow any more.
    fn cut(&self) {
        self.datagrams.end(|pair| {
            let transport = match pair.kind {
                Kind::Udp => Transport::Udp,
                Kind::Echo => Transport::Icmp,
            };
            let verdict = self.gate.outbound(&asked(pair.remote, transport));
            !matches!(verdict, Verdict::Allow { .. })
        });
        self.gate.cut_now();
    }
}

/// A SYN of the guest's that has not been answered yet.
struct Syn(Vec<u8>);

impl Syn {
    fn keep(packet: &Packet<'_>) -> Self {
        Self(packet.whole.to_vec())
    }

    /// Tells the guest that nobody accepts: because nobody listens, or because
    /// there is no way.
    fn answer(&self, link: &Link, refused: bool) {
        let packet = Packet::v4(&self.0).or_else(|| Packet::v6(&self.0));
        let Some(packet) = packet else { return };
        link.write(|outgoing| match packet.tcp() {
            Some(segment) if refused => packet::reset(outgoing, &packet, &segment),
            _ => packet::unreachable(outgoing, &packet, Unreachable::Host),
        });
    }
}

fn refusal(error: &PortError) -> GatewayReply {
    let causes = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    GatewayReply::Refused {
        message: format!("{error}{}", causes.unwrap_or_default()),
        hint: error.hint(),
    }
}

fn asked(remote: SocketAddr, transport: Transport) -> Asked {
    Asked {
        destination: remote.ip(),
        port: remote.port(),
        transport,
    }
}

/// Waits for the guest's part of the handshake, then serves the connection.
async fn established<F: Future<Output = ()>>(
    stream: GuestStream,
    serve: impl FnOnce(GuestStream) -> F,
) {
    match timeout(HANDSHAKE, stream.established()).await {
        Ok(Ok(())) => serve(stream).await,
        _ => stream.reset(),
    }
}

/// Whether an address means more than one host: nobody answers there.
fn is_to_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_multicast()
                || address == Ipv4Addr::BROADCAST
                || address == layout::NETWORK.broadcast()
        }
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Whether the host has a way to the IPv6 internet: a look at its routes,
/// nothing is sent.
pub(super) fn host_has_ipv6() -> bool {
    let anywhere = "[2000::1]:53";
    std::net::UdpSocket::bind("[::]:0").is_ok_and(|socket| socket.connect(anywhere).is_ok())
}
