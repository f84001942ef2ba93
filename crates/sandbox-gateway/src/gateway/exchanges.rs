//! Dispatch of the guest's UDP datagrams and pings. They go to the gateway itself, to a client of a
//! published port, or to an allowed remote host.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr};

use super::core::{Core, destination, is_to_many};
use super::datagrams::{Kind, Pair};
use super::neighbors;
use super::packet::{self, Packet, Unreachable, checksums};
use crate::access_log::FlowStart;
use sandbox_spec::guest_network;
use sandbox_spec::policy::{Reason, RuleName, Transport, Verdict};

impl Core {
    pub(super) fn datagram(self: &Rc<Self>, packet: &Packet<'_>) {
        let Some((guest, remote, content)) = packet.udp() else {
            return;
        };
        if guest_network::is_dns(remote) {
            return self.question(guest, remote, content);
        }
        if is_to_many(remote.ip()) || self.published.send_to_client(remote, guest.port(), content) {
            return;
        }
        let pair = Pair {
            kind: Kind::Udp,
            guest,
            remote,
        };
        self.exchange(pair, packet, content, Transport::Udp);
    }

    /// Forwards a datagram or a ping to the remote end, if the policy allows it.
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
        let verdict = self
            .policy_engine
            .outbound(&destination(pair.remote, transport));
        let verdict = match verdict {
            // QUIC would bypass the TLS interception that inserts secrets.
            Verdict::Allow { .. }
                if pair.kind == Kind::Udp && self.proxy.intercepts(pair.remote) =>
            {
                Verdict::Deny {
                    rule: RuleName::Secrets,
                    reason: Reason::Quic,
                }
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Allow { to, rule, name } => {
                let entry = self
                    .policy_engine
                    .log_allowed(FlowStart { name, ..flow }, &rule);
                match self.datagrams.begin(pair, to, entry) {
                    Ok(()) => drop(self.datagrams.send(pair, packet, content)),
                    Err(error) => {
                        tracing::debug!(%error, ?pair, "could not open a socket for an exchange");
                        self.send_back(packet, Unreachable::Host);
                    }
                }
            }
            Verdict::Intercept => {}
            Verdict::Deny { rule, reason } => {
                self.policy_engine.log_denied(flow, &rule, reason);
                self.send_back(packet, Unreachable::Prohibited);
            }
        }
    }

    pub(super) fn icmp4(self: &Rc<Self>, packet: &Packet<'_>) {
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
        if guest_network::is_gateways(packet.destination) {
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

    pub(super) fn icmp6(self: &Rc<Self>, packet: &Packet<'_>) {
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
            }) if guest_network::is_gateways(packet.destination) => {
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
}
