//! Answers about the guest's own network. ARP (RFC 826) and neighbor discovery (RFC 4861) return
//! the owners of addresses. DHCP (RFC 2131) and router advertisements (RFC 4862) return the guest's
//! own addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::time::Duration;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr,
    EthernetAddress, EthernetProtocol, Icmpv6Repr, NdiscNeighborFlags, NdiscPrefixInfoFlags,
    NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags,
};

use super::packet::{send_icmp6, send_udp};
use super::wire::Outgoing;
use sandbox_spec::guest_network::{
    DNS, DNS6, GATEWAY, GATEWAY_LINK_LOCAL, GATEWAY_MAC, GATEWAY6, GUEST, MTU, NETWORK, NETWORK6,
    PROXY,
};

/// The lifetime of a DHCP lease, in seconds. No other machine can get the address.
const LEASE: u32 = 86400;

/// The router lifetime that the gateway advertises: the default of RFC 4861.
const ROUTER_LIFETIME: Duration = Duration::from_secs(1800);

/// The lifetime of addresses in the advertised network.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(86400);

/// The multicast address of all nodes on the link (RFC 4291).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The hop limit of neighbor discovery (RFC 4861, 11.2).
const ON_LINK: u8 = 255;

/// The DHCP option that holds the MTU (RFC 2132, 5.1).
const OPTION_MTU: u8 = 26;

/// The port of DHCP servers.
pub(super) const DHCP_SERVER: u16 = 67;

/// The port of DHCP clients.
const DHCP_CLIENT: u16 = 68;

/// Answers ARP requests for the gateway's addresses.
pub(super) fn answer_arp(outgoing: &mut Outgoing, bytes: &[u8]) {
    let Ok(packet) = ArpPacket::new_checked(bytes) else {
        return;
    };
    let Ok(ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = ArpRepr::parse(&packet)
    else {
        return;
    };
    if ![GATEWAY, DNS, PROXY].contains(&target_protocol_addr) || !outgoing.has_room_for_urgent() {
        return;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(GATEWAY_MAC),
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    outgoing.frame(EthernetProtocol::Arp, reply.buffer_len(), |packet| {
        reply.emit(&mut ArpPacket::new_unchecked(packet));
    });
}

/// Answers DHCP requests. Each answer offers the guest's one address, and a request for another
/// address gets a NAK.
pub(super) fn answer_dhcp(outgoing: &mut Outgoing, bytes: &[u8]) {
    let Ok(packet) = DhcpPacket::new_checked(bytes) else {
        return;
    };
    let Ok(request) = DhcpRepr::parse(&packet) else {
        return;
    };
    let refused = request.requested_ip.is_some_and(|asked| asked != GUEST);
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if refused => DhcpMessageType::Nak,
        DhcpMessageType::Request | DhcpMessageType::Inform => DhcpMessageType::Ack,
        _ => return,
    };
    let mtu = MTU.to_be_bytes();
    let options = [DhcpOption {
        kind: OPTION_MTU,
        data: &mtu,
    }];
    let reply = DhcpRepr {
        message_type,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: GUEST,
        server_ip: GATEWAY,
        router: Some(GATEWAY),
        subnet_mask: Some(NETWORK.netmask()),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(GATEWAY),
        parameter_request_list: None,
        dns_servers: Some([DNS].into_iter().collect()),
        max_size: None,
        lease_duration: Some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &options,
    };
    let mut content = vec![0; reply.buffer_len()];
    if reply
        .emit(&mut DhcpPacket::new_unchecked(&mut content[..]))
        .is_ok()
    {
        send_udp(
            outgoing,
            SocketAddr::new(IpAddr::V4(GATEWAY), DHCP_SERVER),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), DHCP_CLIENT),
            &content,
        );
    }
}

/// Answers neighbor solicitations for the gateway's addresses. Also answers router solicitations if
/// `advertises` is set, which means that the host has IPv6.
pub(super) fn answer_discovery(
    outgoing: &mut Outgoing,
    guest: Ipv6Addr,
    question: &NdiscRepr<'_>,
    advertises: bool,
) {
    match question {
        NdiscRepr::RouterSolicit { .. } if advertises => advertise_router(outgoing),
        NdiscRepr::NeighborSolicit { target_addr, .. }
            if [GATEWAY6, DNS6, GATEWAY_LINK_LOCAL].contains(target_addr) =>
        {
            let answer = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::ROUTER
                    | NdiscNeighborFlags::SOLICITED
                    | NdiscNeighborFlags::OVERRIDE,
                target_addr: *target_addr,
                lladdr: Some(EthernetAddress(GATEWAY_MAC).into()),
            });
            send_icmp6(outgoing, *target_addr, guest, ON_LINK, &answer);
        }
        _ => {}
    }
}

/// Sends a router advertisement, which gives the guest IPv6 through the gateway.
pub(super) fn advertise_router(outgoing: &mut Outgoing) {
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: ROUTER_LIFETIME,
        reachable_time: Duration::ZERO,
        retrans_time: Duration::ZERO,
        lladdr: Some(EthernetAddress(GATEWAY_MAC).into()),
        mtu: Some(MTU.into()),
        prefix_info: Some(NdiscPrefixInformation {
            prefix_len: NETWORK6.prefix_len(),
            flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
            valid_lifetime: ADDRESS_LIFETIME,
            preferred_lifetime: ADDRESS_LIFETIME,
            prefix: NETWORK6.network(),
        }),
    });
    send_icmp6(
        outgoing,
        GATEWAY_LINK_LOCAL,
        ALL_NODES,
        ON_LINK,
        &advertisement,
    );
}
