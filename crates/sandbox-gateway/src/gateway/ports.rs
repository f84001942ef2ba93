//! Host ports that the gateway forwards to the guest.

use sandbox_host::hint::Hint;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::core::Core;
use super::packet;
use super::relay::relay;
use super::shaper::Direction;
use super::tcp::Ends;
use crate::access_log::{AskedBy, FlowStart};
use sandbox_spec::guest_network::GUEST;
use sandbox_spec::policy::{Transport, Verdict};
use sandbox_spec::publish::PublishedPort;

/// The port of the guest's sshd.
const SSH: u16 = 22;

/// The pause after a failed accept(2), as happens without free descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// An error with a published port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The host port could not be bound.
    #[error("could not publish port {} of {}", .address.port(), .address.ip())]
    Bind {
        /// The host's address and port.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The port to remove is not published.
    #[error("`{0}` is not published")]
    NotPublished(PublishedPort),
}

impl PortError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                Hint::text(
                    "find the program that uses the port with `ss -ltnup`, or take any free port: ",
                )
                .setting("publish", "0:80"),
            ),
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                Hint::text("choose a port of at least 1024, since lower ones need root: ")
                    .setting("publish", "8080:80"),
            ),
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some("choose an address of this host; `ip addr` lists them".into())
            }
            Self::Bind { .. } => None,
            Self::NotPublished(_) => {
                Some(Hint::text("list the published ports with ").command("port ls"))
            }
        }
    }
}

/// Host sockets, bound before the guest starts, so that a used port makes the start fail.
#[derive(Debug)]
pub struct HostPorts {
    ssh: TcpListener,
    ssh_port: u16,
    published: Vec<(PublishedPort, Bound)>,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Bound {
    fn bind(port: &PublishedPort) -> Result<(PublishedPort, Self), PortError> {
        let failed = |source| PortError::Bind {
            address: port.host,
            source,
        };
        let (bound, host) = match port.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(port.host).map_err(failed)?;
                let address = socket.local_addr().map_err(failed)?;
                (Self::Udp(socket), address)
            }
            _ => {
                let listener = TcpListener::bind(port.host).map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                (Self::Tcp(listener), address)
            }
        };
        Ok((PublishedPort { host, ..*port }, bound))
    }
}

impl HostPorts {
    /// Binds the published ports, and a port for SSH that the kernel chooses.
    ///
    /// # Errors
    ///
    /// [`PortError::Bind`] for the first port that cannot be bound.
    pub fn bind(published: &[PublishedPort]) -> Result<Self, PortError> {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let failed = |source| PortError::Bind { address, source };
        let ssh = TcpListener::bind(address).map_err(failed)?;
        Ok(Self {
            ssh_port: ssh.local_addr().map_err(failed)?.port(),
            ssh,
            published: published
                .iter()
                .map(Bound::bind)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Returns the port of 127.0.0.1 that forwards to the guest's sshd.
    pub fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    /// Returns the published ports, with the kernel's choice in place of port 0.
    pub fn published(&self) -> Vec<PublishedPort> {
        self.published.iter().map(|(port, _)| *port).collect()
    }
}

/// The kind of a host port that forwards to the guest.
#[derive(Debug, Clone, Copy)]
enum Entrance {
    /// The host's own port to the guest's sshd, which no rule closes.
    Own,
    /// A published port, and the guest port that it forwards to.
    Published(u16),
}

impl Entrance {
    fn guest_port(self) -> u16 {
        match self {
            Self::Own => SSH,
            Self::Published(port) => port,
        }
    }
}

impl Core {
    /// Starts serving the ports that were bound before the start.
    pub(super) fn serve_ports(self: &Rc<Self>, ports: HostPorts) -> io::Result<()> {
        // Sessions need this port, so nothing stops its task.
        let _ = self.listen(ports.ssh, Entrance::Own)?;
        for (port, bound) in ports.published {
            self.serve(port, bound)?;
        }
        Ok(())
    }

    /// Publishes a port. Returns it with the kernel's choice in place of port 0.
    pub(super) fn add_port(
        self: &Rc<Self>,
        port: &PublishedPort,
    ) -> Result<PublishedPort, PortError> {
        let (port, bound) = Bound::bind(port)?;
        let failed = |source| PortError::Bind {
            address: port.host,
            source,
        };
        self.serve(port, bound).map_err(failed)?;
        Ok(port)
    }

    /// Stops publishing a port. Its open connections continue.
    pub(super) fn remove_port(&self, port: &PublishedPort) -> Result<(), PortError> {
        if self.published.remove(port) {
            Ok(())
        } else {
            Err(PortError::NotPublished(*port))
        }
    }

    /// Returns the published ports.
    pub(super) fn list_ports(&self) -> Vec<PublishedPort> {
        self.published.list()
    }

    fn serve(self: &Rc<Self>, port: PublishedPort, bound: Bound) -> io::Result<()> {
        let task = match bound {
            Bound::Tcp(listener) => self.listen(listener, Entrance::Published(port.guest))?,
            Bound::Udp(socket) => self.receive(socket, port.guest)?,
        };
        self.published.add(port, task);
        Ok(())
    }

    fn listen(
        self: &Rc<Self>,
        listener: TcpListener,
        entrance: Entrance,
    ) -> io::Result<AbortHandle> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let core = self.clone();
        let listening = async move {
            loop {
                match listener.accept().await {
                    Ok((host, client)) => {
                        tokio::task::spawn_local(core.clone().enter(host, client, entrance));
                    }
                    Err(error) => {
                        tracing::warn!(%error, ?entrance, "could not accept a client");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        Ok(tokio::task::spawn_local(listening).abort_handle())
    }

    /// Forwards the connection of one client to the guest, until it ends.
    async fn enter(
        self: Rc<Self>,
        host: tokio::net::TcpStream,
        client: SocketAddr,
        entrance: Entrance,
    ) {
        let guest_port = entrance.guest_port();
        let refuse = |host: &tokio::net::TcpStream| {
            // With a linger time of zero, close(2) resets the connection. The call cannot fail on
            // an open socket.
            let _ = rustix::net::sockopt::set_socket_linger(host, Some(Duration::ZERO));
        };
        let flow = FlowStart {
            asked_by: AskedBy::Published,
            name: None,
            address: Some(client.ip()),
            port: guest_port,
            transport: Transport::Tcp,
        };
        let rule = match entrance {
            Entrance::Own => None,
            Entrance::Published(_) => {
                match self
                    .policy_engine
                    .inbound(client, guest_port, Transport::Tcp)
                {
                    Verdict::Allow { rule, .. } => Some(rule),
                    Verdict::Intercept => return refuse(&host),
                    Verdict::Deny { rule, reason } => {
                        self.policy_engine.log_denied(flow, &rule, reason);
                        return refuse(&host);
                    }
                }
            }
        };
        let guest = SocketAddr::new(IpAddr::V4(GUEST), guest_port);
        let free = |remote| !self.tcp.has(Ends { guest, remote });
        let Some(remote) = self.published.free_address(|remote| !free(remote)) else {
            return refuse(&host);
        };
        if self.tcp.is_full_for_the_host() {
            return refuse(&host);
        }
        let stream = self.tcp.open(Ends { guest, remote });
        if stream.established().await.is_err() {
            return refuse(&host);
        }
        let _ = host.set_nodelay(true);
        let entry = rule.map(|rule| self.policy_engine.log_allowed(flow, &rule));
        relay(
            &stream,
            host,
            &self.shaper,
            entry.as_ref(),
            std::future::pending(),
        )
        .await;
    }

    fn receive(self: &Rc<Self>, socket: UdpSocket, guest_port: u16) -> io::Result<AbortHandle> {
        socket.set_nonblocking(true)?;
        let socket = Rc::new(tokio::net::UdpSocket::from_std(socket)?);
        let core = self.clone();
        let receiving = async move {
            let mut buffer = vec![0; packet::LARGEST_DATAGRAM];
            loop {
                match socket.recv_from(&mut buffer).await {
                    Ok((length, client)) => {
                        let content = buffer.get(..length).unwrap_or_default();
                        core.pass_in(&socket, client, guest_port, content);
                    }
                    // An ICMP error about an earlier answer.
                    Err(error) => {
                        tracing::debug!(%error, guest_port, "error on a published UDP port");
                    }
                }
            }
        };
        Ok(tokio::task::spawn_local(receiving).abort_handle())
    }

    /// Forwards a client's datagram to the guest, if the policy and the bandwidth allow it.
    fn pass_in(
        &self,
        socket: &Rc<tokio::net::UdpSocket>,
        client: SocketAddr,
        guest_port: u16,
        content: &[u8],
    ) {
        match self
            .policy_engine
            .inbound(client, guest_port, Transport::Udp)
        {
            Verdict::Allow { .. } => {}
            Verdict::Intercept => return,
            Verdict::Deny { rule, reason } => {
                let flow = FlowStart {
                    asked_by: AskedBy::Published,
                    name: None,
                    address: Some(client.ip()),
                    port: guest_port,
                    transport: Transport::Udp,
                };
                return self.policy_engine.log_denied(flow, &rule, reason);
            }
        }
        if !self.shaper.admits(Direction::Down, content.len()) {
            return;
        }
        let Some(known) = self.published.address_of_client(client, guest_port, socket) else {
            return;
        };
        let guest = SocketAddr::new(IpAddr::V4(GUEST), guest_port);
        self.link
            .write(|outgoing| packet::send_udp(outgoing, known, guest, content));
    }
}
