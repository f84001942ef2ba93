//! The published ports of a running gateway, and the clients of the UDP ones.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use sandbox_spec::guest_network::GATEWAY;
use sandbox_spec::publish::PublishedPort;

/// The gateway's ports that stand for clients of the host (RFC 6335's dynamic ports).
const DYNAMIC: Range<u16> = 49152..65535;

/// The most UDP clients that are remembered. A new client replaces the one that was silent for
/// longest.
const MOST_UDP_CLIENTS: usize = 512;

/// The published ports, each with the task that serves it.
#[derive(Default)]
pub(super) struct PublishedPorts {
    ports: RefCell<Vec<(PublishedPort, AbortHandle)>>,
    clients: RefCell<HashMap<SocketAddr, Client>>,
    next: Cell<u16>,
}

/// A client of a published UDP port. The guest knows it as a port of the gateway.
struct Client {
    address: SocketAddr,
    guest_port: u16,
    socket: Rc<UdpSocket>,
    used: Cell<Instant>,
}

impl PublishedPorts {
    /// Adds a port that `task` serves.
    pub(super) fn add(&self, port: PublishedPort, task: AbortHandle) {
        self.ports.borrow_mut().push((port, task));
    }

    /// Stops the task of a port. Returns false if the port is not published.
    pub(super) fn remove(&self, port: &PublishedPort) -> bool {
        let mut ports = self.ports.borrow_mut();
        let before = ports.len();
        ports.retain(|(published, task)| {
            let is_same = published == port;
            if is_same {
                task.abort();
            }
            !is_same
        });
        let removed = ports.len() < before;
        if removed {
            // Each client of a UDP port keeps its socket open.
            let mut clients = self.clients.borrow_mut();
            clients.retain(|_, client| client.socket.local_addr().ok() != Some(port.host));
        }
        removed
    }

    /// Returns the published ports.
    pub(super) fn list(&self) -> Vec<PublishedPort> {
        self.ports.borrow().iter().map(|(port, _)| *port).collect()
    }

    /// Returns the gateway's address with a dynamic port for which `is_used` is false.
    pub(super) fn free_address(&self, is_used: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        for _ in DYNAMIC {
            let port = self.next.get().max(DYNAMIC.start);
            self.next
                .set(if port + 1 < DYNAMIC.end { port + 1 } else { 0 });
            let address = SocketAddr::new(IpAddr::V4(GATEWAY), port);
            if !is_used(address) {
                return Some(address);
            }
        }
        None
    }

    /// Returns the gateway's address that stands for this client.
    pub(super) fn address_of_client(
        &self,
        address: SocketAddr,
        guest_port: u16,
        socket: &Rc<UdpSocket>,
    ) -> Option<SocketAddr> {
        let mut clients = self.clients.borrow_mut();
        let known = clients.iter().find(|(_, client)| {
            client.address == address
                && client.guest_port == guest_port
                && Rc::ptr_eq(&client.socket, socket)
        });
        if let Some((known, client)) = known {
            client.used.set(Instant::now());
            return Some(*known);
        }
        if clients.len() >= MOST_UDP_CLIENTS {
            let oldest = clients.iter().min_by_key(|(_, client)| client.used.get());
            let oldest = oldest.map(|(known, _)| *known)?;
            clients.remove(&oldest);
        }
        let known = self.free_address(|address| clients.contains_key(&address))?;
        let client = Client {
            address,
            guest_port,
            socket: socket.clone(),
            used: Cell::new(Instant::now()),
        };
        clients.insert(known, client);
        Some(known)
    }

    /// Sends the guest's datagram to the client for which `remote` stands. Returns false if there
    /// is none.
    pub(super) fn send_to_client(
        &self,
        remote: SocketAddr,
        guest_port: u16,
        content: &[u8],
    ) -> bool {
        let clients = self.clients.borrow();
        let Some(client) = clients.get(&remote) else {
            return false;
        };
        if client.guest_port != guest_port {
            return false;
        }
        client.used.set(Instant::now());
        // UDP may lose it.
        let flags = rustix::net::SendFlags::DONTWAIT;
        let _ = rustix::net::sendto(&*client.socket, content, flags, &client.address);
        true
    }
}
