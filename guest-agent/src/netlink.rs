//! The rtnetlink messages that bring an interface up.
//!
//! Layouts: `linux/netlink.h` (`nlmsghdr`), `linux/rtnetlink.h` (`rtmsg`,
//! `rtattr`), `linux/if_link.h` (`ifinfomsg`), `linux/if_addr.h` (`ifaddrmsg`).
//! All numbers are in the machine's byte order, addresses in network order.

use std::net::Ipv4Addr;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

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

/// Type of an answer: acknowledgement or error number.
const NLMSG_ERROR: u16 = 2;

/// Length of `nlmsghdr`: length (4), type (2), flags (2), sequence (4), port (4).
const HEADER_LENGTH: usize = 16;

/// Sets the interface up.
pub(crate) fn link_up(interface: u32) -> Vec<u8> {
    let mut body = vec![AF_UNSPEC, 0, 0, 0];
    body.extend(interface.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    message(RTM_NEWLINK, 0, &body)
}

/// Gives the interface an address.
pub(crate) fn add_address(interface: u32, address: Ipv4Addr, prefix_length: u8) -> Vec<u8> {
    let mut body = vec![AF_INET, prefix_length, 0, RT_SCOPE_UNIVERSE];
    body.extend(interface.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &address.octets());
    attribute(&mut body, IFA_ADDRESS, &address.octets());
    message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// Routes everything that is not local to the gateway.
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

/// What the kernel answered to one message: 0, or a negative error number.
/// `None` if these bytes are no answer.
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

/// Appends an `rtattr`: length (2), type (2), value. All values here are four
/// bytes long, so that no padding is needed.
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
    fn address_message() {
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
    fn link_and_route_messages() {
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
    fn answers() {
        let mut bytes = vec![36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(&bytes), None);
        bytes.extend((-17_i32).to_ne_bytes());
        assert_eq!(answer(&bytes), Some(-17));
        bytes[4] = 3;
        assert_eq!(answer(&bytes), None);
    }
}
