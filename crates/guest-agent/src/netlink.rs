//! Encodes and decodes the rtnetlink messages that configure an interface and
//! list addresses (rtnetlink(7)).
//!
//! Layouts: `linux/netlink.h` (`nlmsghdr`), `linux/rtnetlink.h` (`rtmsg`,
//! `rtattr`, `ifinfomsg`), `linux/if_addr.h` (`ifaddrmsg`). Numbers are in the
//! machine's byte order, addresses in network order.

use std::net::{IpAddr, Ipv4Addr};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;

const IFF_UP: u32 = 0x1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;

/// The type of an answer: acknowledgement or error number.
const NLMSG_ERROR: u16 = 2;

/// The type of the last message of a list.
const NLMSG_DONE: u16 = 3;

/// Length of `ifaddrmsg`: family, prefix length, flags, scope, interface (4).
const ADDRESS_HEADER_LENGTH: usize = 8;

/// Length of `rtattr`: length (2), type (2).
const ATTRIBUTE_HEADER_LENGTH: usize = 4;

/// Length of `nlmsghdr`: length (4), type (2), flags (2), sequence (4), port (4).
const HEADER_LENGTH: usize = 16;

/// Brings up the interface.
pub(crate) fn link_up(interface: u32) -> Vec<u8> {
    let mut body = vec![AF_UNSPEC, 0, 0, 0];
    body.extend(interface.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    message(RTM_NEWLINK, 0, &body)
}

/// Adds an address to the interface.
pub(crate) fn add_address(interface: u32, address: Ipv4Addr, prefix_length: u8) -> Vec<u8> {
    let mut body = vec![AF_INET, prefix_length, 0, RT_SCOPE_UNIVERSE];
    body.extend(interface.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &address.octets());
    attribute(&mut body, IFA_ADDRESS, &address.octets());
    message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// Adds a default route through the gateway.
pub(crate) fn add_default_route(interface: u32, gateway: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![
        AF_INET,
        0, // destination prefix length: everything
        0, // source prefix length
        0, // type of service
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        RT_SCOPE_UNIVERSE,
        RTN_UNICAST,
    ];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, RTA_GATEWAY, &gateway.octets());
    attribute(&mut body, RTA_OIF, &interface.to_ne_bytes());
    message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// Decodes the kernel's answer to one message: 0, or a negative error number.
/// Returns `None` if these bytes are not an answer.
pub(crate) fn answer(bytes: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(
        bytes
            .get(HEADER_LENGTH..HEADER_LENGTH + 4)?
            .try_into()
            .ok()?,
    );
    (kind == NLMSG_ERROR).then_some(code)
}

/// Requests all addresses of all interfaces.
pub(crate) fn list_addresses() -> Vec<u8> {
    let mut body = vec![0; ADDRESS_HEADER_LENGTH];
    body[0] = AF_UNSPEC;
    message(RTM_GETADDR, NLM_F_DUMP, &body)
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    pub(crate) interface: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix_length: u8,
}

/// One datagram of the answer to [`list_addresses`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressList {
    pub(crate) addresses: Vec<InterfaceAddress>,
    /// Whether this is the last datagram.
    pub(crate) is_last: bool,
}

impl AddressList {
    /// Decodes the complete messages of a datagram.
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let mut list = Self::default();
        while let Some((kind, body, rest)) = split_message(bytes) {
            match kind {
                RTM_NEWADDR => list.addresses.extend(interface_address(body)),
                NLMSG_DONE | NLMSG_ERROR => list.is_last = true,
                _ => {}
            }
            bytes = rest;
        }
        list
    }
}

/// Returns type and body of the first message, and the bytes after it.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_LENGTH..length)?;
    Some((kind, body, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// Rounds up to the alignment of messages and attributes (`NLMSG_ALIGNTO`,
/// `RTA_ALIGNTO`).
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Decodes the body of an `RTM_NEWADDR`. Of two addresses, `IFA_LOCAL` belongs to the interface and
/// the other to its peer (`linux/if_addr.h`).
fn interface_address(body: &[u8]) -> Option<InterfaceAddress> {
    let prefix_length = *body.get(1)?;
    let interface = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let mut attributes = body.get(ADDRESS_HEADER_LENGTH..)?;
    let mut found = None;
    while let Some((kind, value, rest)) = split_attribute(attributes) {
        match (kind, address(value)) {
            (IFA_LOCAL, Some(own)) => found = Some(own),
            (IFA_ADDRESS, Some(address)) => found = found.or(Some(address)),
            _ => {}
        }
        attributes = rest;
    }
    Some(InterfaceAddress {
        interface,
        address: found?,
        prefix_length,
    })
}

fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
    let value = bytes.get(ATTRIBUTE_HEADER_LENGTH..length)?;
    Some((
        kind,
        value,
        bytes.get(aligned(length)..).unwrap_or_default(),
    ))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length =
        u32::try_from(HEADER_LENGTH + body.len()).expect("messages here are under 64 bytes");
    let mut message = Vec::with_capacity(HEADER_LENGTH + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Appends an `rtattr`: length (2), type (2), value. All values are four bytes
/// long, so no padding is needed.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8; 4]) {
    body.extend(8_u16.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn add_address_encodes_the_message() {
        let message = add_address(2, Ipv4Addr::new(10, 0, 2, 15), 24);
        #[rustfmt::skip]
        let expected = [
            40, 0, 0, 0, 20, 0, 0x05, 0x05, 0, 0, 0, 0, 0, 0, 0, 0,
            2, 24, 0, 0, 2, 0, 0, 0,
            8, 0, 2, 0, 10, 0, 2, 15,
            8, 0, 1, 0, 10, 0, 2, 15,
        ];
        assert_eq!(message, expected);
    }

    #[test]
    fn link_up_and_add_default_route_encode_the_messages() {
        #[rustfmt::skip]
        let link = [
            32, 0, 0, 0, 16, 0, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
        ];
        assert_eq!(link_up(1), link);
        #[rustfmt::skip]
        let route = [
            44, 0, 0, 0, 24, 0, 0x05, 0x05, 0, 0, 0, 0, 0, 0, 0, 0,
            2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0,
            8, 0, 5, 0, 10, 0, 2, 2,
            8, 0, 4, 0, 3, 0, 0, 0,
        ];
        assert_eq!(add_default_route(3, Ipv4Addr::new(10, 0, 2, 2)), route);
    }

    #[test]
    fn address_list_decodes_complete_messages() {
        #[rustfmt::skip]
        let mut bytes = vec![
            44, 0, 0, 0, 20, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            2, 24, 0, 0, 2, 0, 0, 0,
            8, 0, 1, 0, 10, 0, 2, 99,
            8, 0, 2, 0, 10, 0, 2, 15,
            // An attribute with padding.
            3 + 2, 0, 3, 0, b'e', 0, 0, 0,
        ];
        bytes[0] = u8::try_from(bytes.len()).unwrap();
        let first = InterfaceAddress {
            interface: 2,
            address: Ipv4Addr::new(10, 0, 2, 15).into(),
            prefix_length: 24,
        };
        let list = AddressList::parse(&bytes);
        assert_eq!(list.addresses, [first]);
        assert!(!list.is_last);

        let mut second = vec![44, 0, 0, 0, 20, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        second.extend([10, 64, 0, 0, 3, 0, 0, 0, 20, 0, 1, 0]);
        let address = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap();
        second.extend(address.octets());
        bytes.extend(second);
        bytes.extend([20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let list = AddressList::parse(&bytes);
        let second = InterfaceAddress {
            interface: 3,
            address: address.into(),
            prefix_length: 64,
        };
        assert_eq!(list.addresses, [first, second]);
        assert!(list.is_last);

        for length in 0..bytes.len() {
            assert!(!AddressList::parse(&bytes[..length]).is_last, "{length}");
        }
    }

    #[test]
    fn answer_returns_the_error_number() {
        let mut bytes = vec![36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(&bytes), None);
        bytes.extend((-17_i32).to_ne_bytes());
        assert_eq!(answer(&bytes), Some(-17));
        bytes[4] = 3;
        assert_eq!(answer(&bytes), None);
    }
}
