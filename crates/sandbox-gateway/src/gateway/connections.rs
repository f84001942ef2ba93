//! Dispatch of the guest's new TCP connections. The gateway refuses a connection, connects it to
//! its host, serves it itself, or passes it to the proxy.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::core::{Core, destination, is_to_many};
use super::link::Link;
use super::packet::{self, Packet, Unreachable};
use super::relay::relay;
use super::shaper::Shaped;
use super::tcp::{Arrival, Ends, GuestStream};
use crate::access_log::{FlowEntry, FlowStart};
use crate::proxy::Proxy;
use sandbox_spec::domain::DomainName;
use sandbox_spec::guest_network;
use sandbox_spec::policy::{Reason, RuleName, Transport, Verdict};

/// The time limit for a host to accept a connection.
const CONNECT: Duration = Duration::from_secs(60);

/// The time limit for the guest's part of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);

impl Core {
    pub(super) fn segment(self: &Rc<Self>, packet: &Packet<'_>) {
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
            self.policy_engine
                .log_denied(flow, &RuleName::Bounds, Reason::Bounds);
            return refuse();
        }
        if guest_network::is_dns(ends.remote) {
            let stream = self.tcp.accept(ends, packet.whole);
            let core = self.clone();
            tokio::task::spawn_local(established(stream, |stream| core.questions(stream)));
            return;
        }
        if guest_network::is_proxy(ends.remote) && self.policy_engine.is_proxy_mode() {
            let serve = move |proxy: Proxy, stream: Shaped| async move {
                proxy.explicit(stream).await;
            };
            return self.look_into(ends, packet, serve);
        }
        match self
            .policy_engine
            .outbound(&destination(ends.remote, Transport::Tcp))
        {
            Verdict::Intercept => {
                let serve = move |proxy: Proxy, stream: Shaped| async move {
                    proxy.transparent(stream, ends.remote).await;
                };
                self.look_into(ends, packet, serve);
            }
            Verdict::Allow { to, rule, .. } if self.proxy.intercepts(ends.remote) => {
                let serve = move |proxy: Proxy, stream: Shaped| async move {
                    proxy
                        .allowed_by_address(stream, ends.remote, to, rule)
                        .await;
                };
                self.look_into(ends, packet, serve);
            }
            Verdict::Allow { to, rule, name } => {
                self.tcp.offer(ends);
                let flow = FlowStart {
                    name: name.clone(),
                    ..flow
                };
                let entry = self.policy_engine.log_allowed(flow, &rule);
                let syn = Syn::keep(packet);
                let connecting = self.clone().connect(ends, syn, to, entry, name);
                tokio::task::spawn_local(connecting);
            }
            Verdict::Deny { rule, reason } => {
                self.policy_engine.log_denied(flow, &rule, reason);
                refuse();
            }
        }
    }

    /// Accepts a connection whose first bytes decide its destination, and lets the proxy serve it.
    fn look_into<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        ends: Ends,
        packet: &Packet<'_>,
        serve: impl FnOnce(Proxy, Shaped) -> F + 'static,
    ) {
        let stream = self.tcp.accept(ends, packet.whole);
        let (proxy, shaper) = (self.proxy.clone(), self.shaper.clone());
        let serve = |stream| serve(proxy, Shaped::new(stream, shaper));
        tokio::task::spawn_local(established(stream, serve));
    }

    /// Connects to the host at `to`. Then accepts the guest's connection and relays between them.
    async fn connect(
        self: Rc<Self>,
        ends: Ends,
        syn: Syn,
        to: SocketAddr,
        entry: FlowEntry,
        name: Option<DomainName>,
    ) {
        let host = match timeout(CONNECT, TcpStream::connect(to)).await {
            Ok(Ok(host)) => host,
            failed => {
                self.tcp.withdraw(ends);
                let refused = matches!(&failed, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused);
                syn.answer(&self.link, refused);
                return;
            }
        };
        // The guest's kernel already delays small segments.
        let _ = host.set_nodelay(true);
        let guest = self.tcp.accept(ends, &syn.0);
        if !matches!(timeout(HANDSHAKE, guest.established()).await, Ok(Ok(()))) {
            guest.reset();
            return;
        }
        let denied = self.denied_later(ends.remote, name);
        relay(&guest, host, &self.shaper, Some(&entry), denied).await;
    }

    /// Waits for a cut after which the policy no longer allows this connection.
    async fn denied_later(&self, remote: SocketAddr, name: Option<DomainName>) {
        let mut cut = self.policy_engine.rechecks();
        while cut.changed().await.is_ok() {
            let by_address = self
                .policy_engine
                .outbound(&destination(remote, Transport::Tcp));
            // The DNS answer that allowed the address may have expired, so the name also counts.
            let by_name = name
                .as_ref()
                .map(|name| self.policy_engine.named(name, remote.port()));
            if !matches!(by_address, Verdict::Allow { .. })
                && !by_name.is_some_and(|verdict| verdict.is_allowed())
            {
                return;
            }
        }
        pending().await
    }
}

/// A SYN of the guest that the gateway has not answered yet: a whole IP packet.
struct Syn(Vec<u8>);

impl Syn {
    fn keep(packet: &Packet<'_>) -> Self {
        Self(packet.whole.to_vec())
    }

    /// Answers the SYN with a reset if the host refused the connection, else with "host
    /// unreachable".
    fn answer(&self, link: &Link, refused: bool) {
        let packet = Packet::v4(&self.0).or_else(|| Packet::v6(&self.0));
        let Some(packet) = packet else { return };
        link.write(|outgoing| match packet.tcp() {
            Some(segment) if refused => packet::reset(outgoing, &packet, &segment),
            _ => packet::unreachable(outgoing, &packet, Unreachable::Host),
        });
    }
}

/// Waits for the guest's part of the handshake, then serves the connection. Resets it if the guest
/// takes longer than [`HANDSHAKE`].
async fn established<F: Future<Output = ()>>(
    stream: GuestStream,
    serve: impl FnOnce(GuestStream) -> F,
) {
    match timeout(HANDSHAKE, stream.established()).await {
        Ok(Ok(())) => serve(stream).await,
        _ => stream.reset(),
    }
}
