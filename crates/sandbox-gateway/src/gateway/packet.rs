//! Parses IP packets from the guest and builds packets for it. Formats: RFC 791 (IPv4), 8200
//! (IPv6), 768 (UDP), 9293 (TCP), 792 (ICMP), 4443 (ICMPv6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{
    EthernetProtocol, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
    TcpControl, TcpPacket, TcpRepr, UdpPacket, UdpRepr,
};

use super::wire::Outgoing;

/// The hop limit of packets that the gateway sends.
pub(super) const HOP_LIMIT: u8 = 64;

/// The most that an ICMP error quotes of a packet's payload, in bytes. The quote must include the
/// ports.
const QUOTED: usize = 512;

/// The largest UDP content that fits into one IP packet of either version, in bytes.
pub(super) const LARGEST_DATAGRAM: usize =
    sandbox_spec::guest_network::MTU as usize - smoltcp::wire::IPV6_HEADER_LEN - UDP_HEADER;

/// Size of a UDP header, in bytes.
const UDP_HEADER: usize = 8;

/// Returns the checksums that smoltcp handles. It verifies none, since nothing gets damaged between
/// QEMU and the gateway. It computes all, since the guest's kernel verifies them.
pub(super) fn checksums() -> ChecksumCapabilities {
    let mut checksums = ChecksumCapabilities::ignored();
    checksums.ipv4 = Checksum::Tx;
    checksums.udp = Checksum::Tx;
    checksums.tcp = Checksum::Tx;
    checksums.icmpv4 = Checksum::Tx;
    checksums.icmpv6 = Checksum::Tx;
    checksums
}

/// A complete, unfragmented IP packet from the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: IpProtocol,
    /// The whole packet, header included.
    pub(super) whole: &'a [u8],
    /// The bytes after the IP header.
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Parses an IPv4 packet. Returns `None` if it is malformed or a fragment.
    pub(super) fn v4(bytes: &'a [u8]) -> Option<Self> {
        let packet = Ipv4Packet::new_checked(bytes).ok()?;
        if packet.version() != 4 || packet.more_frags() || packet.frag_offset() != 0 {
            return None;
        }
        Some(Self {
            source: packet.src_addr().into(),
            destination: packet.dst_addr().into(),
            protocol: packet.next_header(),
            whole: bytes.get(..packet.total_len().into())?,
            payload: packet.payload(),
        })
    }

    /// Parses an IPv6 packet. Returns `None` if it is malformed. Extension headers stay part of the
    /// payload, since no flow that the gateway forwards needs one.
    pub(super) fn v6(bytes: &'a [u8]) -> Option<Self> {
        let packet = Ipv6Packet::new_checked(bytes).ok()?;
        if packet.version() != 6 {
            return None;
        }
        Some(Self {
            source: packet.src_addr().into(),
            destination: packet.dst_addr().into(),
            protocol: packet.next_header(),
            whole: bytes.get(..packet.total_len())?,
            payload: packet.payload(),
        })
    }

    /// Returns the ends and the content of the UDP packet in it, if its protocol is UDP.
    pub(super) fn udp_if_any(&self) -> Option<(SocketAddr, SocketAddr, &'a [u8])> {
        (self.protocol == IpProtocol::Udp).then(|| self.udp())?
    }

    /// Parses the payload as a UDP packet. Returns its source, destination and content, or `None`
    /// if it is malformed or has a port 0.
    pub(super) fn udp(&self) -> Option<(SocketAddr, SocketAddr, &'a [u8])> {
        let packet = UdpPacket::new_checked(self.payload).ok()?;
        if packet.src_port() == 0 || packet.dst_port() == 0 {
            return None;
        }
        Some((
            SocketAddr::new(self.source, packet.src_port()),
            SocketAddr::new(self.destination, packet.dst_port()),
            packet.payload(),
        ))
    }

    /// Parses the payload as a TCP segment. Returns `None` if it is malformed or has a port 0.
    pub(super) fn tcp(&self) -> Option<TcpPacket<&'a [u8]>> {
        let segment = TcpPacket::new_checked(self.payload).ok()?;
        (segment.src_port() != 0 && segment.dst_port() != 0).then_some(segment)
    }
}

/// The reason of an ICMP "destination unreachable".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// The policy denies the packet.
    Prohibited,
    /// Nothing listens on the port.
    Port,
    /// The host cannot be reached.
    Host,
}

/// Returns an IP header for a payload of `length` bytes. Both addresses must be of one family.
fn header(source: IpAddr, destination: IpAddr, protocol: IpProtocol, length: usize) -> IpRepr {
    IpRepr::new(
        source.into(),
        destination.into(),
        protocol,
        length,
        HOP_LIMIT,
    )
}

fn ethertype(header: &IpRepr) -> EthernetProtocol {
    match header {
        IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
        IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
    }
}

/// Appends an IP packet whose zeroed payload `fill` writes to. Drops it if the link has no room.
fn emit(outgoing: &mut Outgoing, header: &IpRepr, fill: impl FnOnce(&mut [u8])) {
    if !outgoing.has_room_for_urgent() {
        return;
    }
    outgoing.frame(ethertype(header), header.buffer_len(), |packet| {
        let (head, payload) = packet.split_at_mut(header.header_len());
        header.emit(head, &checksums());
        fill(payload);
    });
}

/// Sends a UDP packet to the guest. Drops content larger than [`LARGEST_DATAGRAM`].
pub(super) fn send_udp(
    outgoing: &mut Outgoing,
    source: SocketAddr,
    destination: SocketAddr,
    content: &[u8],
) {
    if content.len() > LARGEST_DATAGRAM || source.is_ipv4() != destination.is_ipv4() {
        return;
    }
    let length = UDP_HEADER + content.len();
    let header = header(source.ip(), destination.ip(), IpProtocol::Udp, length);
    let repr = UdpRepr {
        src_port: source.port(),
        dst_port: destination.port(),
    };
    emit(outgoing, &header, |payload| {
        repr.emit(
            &mut UdpPacket::new_unchecked(payload),
            &source.ip().into(),
            &destination.ip().into(),
            content.len(),
            |buffer| buffer.copy_from_slice(content),
            &checksums(),
        );
    });
}

/// Answers a segment that belongs to no connection with a reset (RFC 9293, 3.10.7.1).
pub(super) fn reset(outgoing: &mut Outgoing, packet: &Packet<'_>, segment: &TcpPacket<&[u8]>) {
    if segment.rst() {
        return;
    }
    let (seq_number, ack_number) = if segment.ack() {
        (segment.ack_number(), None)
    } else {
        let next = segment.seq_number() + segment.segment_len();
        (smoltcp::wire::TcpSeqNumber(0), Some(next))
    };
    let repr = TcpRepr {
        src_port: segment.dst_port(),
        dst_port: segment.src_port(),
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (source, destination) = (packet.destination, packet.source);
    let header = header(source, destination, IpProtocol::Tcp, repr.buffer_len());
    emit(outgoing, &header, |payload| {
        let mut segment = TcpPacket::new_unchecked(payload);
        repr.emit(
            &mut segment,
            &source.into(),
            &destination.into(),
            &checksums(),
        );
    });
}

/// Answers a packet from the guest with an ICMP "destination unreachable".
pub(super) fn unreachable(outgoing: &mut Outgoing, packet: &Packet<'_>, why: Unreachable) {
    let quoted = packet.payload.get(..QUOTED).unwrap_or(packet.payload);
    let whole = packet.payload.len();
    match (packet.source, packet.destination) {
        (IpAddr::V4(guest), IpAddr::V4(remote)) => {
            let reason = match why {
                Unreachable::Prohibited => Icmpv4DstUnreachable::CommProhibited,
                Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
                Unreachable::Host => Icmpv4DstUnreachable::HostUnreachable,
            };
            let repr = Icmpv4Repr::DstUnreachable {
                reason,
                header: Ipv4Repr {
                    src_addr: guest,
                    dst_addr: remote,
                    next_header: packet.protocol,
                    payload_len: whole,
                    hop_limit: HOP_LIMIT,
                },
                data: quoted,
            };
            send_icmp4(outgoing, sandbox_spec::guest_network::GATEWAY, guest, &repr);
        }
        (IpAddr::V6(guest), IpAddr::V6(remote)) => {
            let reason = match why {
                Unreachable::Prohibited => Icmpv6DstUnreachable::AdminProhibit,
                Unreachable::Port => Icmpv6DstUnreachable::PortUnreachable,
                Unreachable::Host => Icmpv6DstUnreachable::AddrUnreachable,
            };
            let repr = Icmpv6Repr::DstUnreachable {
                reason,
                header: Ipv6Repr {
                    src_addr: guest,
                    dst_addr: remote,
                    next_header: packet.protocol,
                    payload_len: whole,
                    hop_limit: HOP_LIMIT,
                },
                data: quoted,
            };
            send_icmp6(
                outgoing,
                sandbox_spec::guest_network::GATEWAY6,
                guest,
                HOP_LIMIT,
                &repr,
            );
        }
        _ => {}
    }
}

/// Sends an ICMP message to the guest.
pub(super) fn send_icmp4(
    outgoing: &mut Outgoing,
    source: Ipv4Addr,
    guest: Ipv4Addr,
    repr: &Icmpv4Repr<'_>,
) {
    let header = header(
        source.into(),
        guest.into(),
        IpProtocol::Icmp,
        repr.buffer_len(),
    );
    emit(outgoing, &header, |payload| {
        repr.emit(&mut Icmpv4Packet::new_unchecked(payload), &checksums());
    });
}

/// Sends an ICMPv6 message to the guest. Neighbor discovery needs a hop limit of 255 (RFC 4861,
/// 11.2).
pub(super) fn send_icmp6(
    outgoing: &mut Outgoing,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    repr: &Icmpv6Repr<'_>,
) {
    let header = IpRepr::Ipv6(Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: repr.buffer_len(),
        hop_limit,
    });
    emit(outgoing, &header, |payload| {
        let mut message = Icmpv6Packet::new_unchecked(payload);
        repr.emit(&source, &destination, &mut message, &checksums());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const DESTINATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

    /// Returns an IPv4 packet with a UDP datagram of eight bytes for port 443.
    fn datagram() -> Vec<u8> {
        let header = header(SOURCE.into(), DESTINATION.into(), IpProtocol::Udp, 16);
        let mut bytes = vec![0; 36];
        header.emit(&mut bytes, &checksums());
        let mut packet = UdpPacket::new_unchecked(&mut bytes[20..]);
        packet.set_src_port(9);
        packet.set_dst_port(443);
        packet.set_len(16);
        bytes
    }

    #[test]
    fn packet_v4_rejects_fragments_and_truncated_packets() {
        let whole = datagram();
        let packet = Packet::v4(&whole).unwrap();
        assert_eq!(packet.udp().unwrap().1.port(), 443);
        // The first fragment, which has the ports, one in the middle, and the last.
        for (more, offset) in [(true, 0), (true, 8), (false, 8)] {
            let mut bytes = whole.clone();
            let mut fragment = Ipv4Packet::new_unchecked(&mut bytes);
            fragment.set_more_frags(more);
            fragment.set_frag_offset(offset);
            fragment.fill_checksum();
            assert!(Packet::v4(&bytes).is_none(), "{more} {offset}");
        }
        for length in 0..whole.len() {
            assert!(Packet::v4(&whole[..length]).is_none(), "{length}");
        }
    }

    /// The extension header's number is the packet's protocol, which the policy engine does not
    /// know.
    #[test]
    fn packet_v6_does_not_read_behind_extension_headers() {
        for extension in [
            IpProtocol::HopByHop,
            IpProtocol::Ipv6Route,
            IpProtocol::Ipv6Frag,
            IpProtocol::Ipv6Opts,
        ] {
            let source: Ipv6Addr = "fd00:5a4d:b0c5:2::15".parse().unwrap();
            let destination: Ipv6Addr = "2001:db8:1::7".parse().unwrap();
            let header = header(source.into(), destination.into(), extension, 24);
            let mut bytes = vec![0; 64];
            header.emit(&mut bytes, &checksums());
            bytes[40] = IpProtocol::Udp.into();
            let packet = Packet::v6(&bytes).unwrap();
            assert_eq!(packet.protocol, extension);
            assert!(packet.udp_if_any().is_none());
        }
    }
}
