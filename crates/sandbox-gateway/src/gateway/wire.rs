//! Frames between QEMU and the gateway: in QEMU's stream back end each is
//! preceded by its length, four bytes in network order (qemu/net/stream.c).

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr};

use sandbox_spec::guest_network::{GATEWAY_MAC, GUEST_MAC, MTU};

/// Bytes of the length before each frame.
const PREFIX: usize = 4;

/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// The largest frame of either side, in bytes, with room for a VLAN's tag.
const LARGEST_FRAME: usize = MTU as usize + HEADER + 4;

/// How much is read from QEMU at once, in bytes.
const READ_SIZE: usize = 256 << 10;

/// Beyond this many unsent bytes, TCP waits.
const HIGH_WATER: usize = 512 << 10;

/// Beyond this many unsent bytes, whatever cannot wait is lost, as on any wire.
const LIMIT: usize = 1 << 20;

/// What QEMU sent is none of its frames.
#[derive(Debug, thiserror::Error)]
#[error("QEMU announced a frame of {0} bytes")]
pub(super) struct FrameTooLarge(u32);

/// Bytes from QEMU, cut into frames.
pub(super) struct Incoming {
    buffer: Vec<u8>,
    begin: usize,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::with_capacity(READ_SIZE),
            begin: 0,
        }
    }

    /// Where to read to; what was not taken yet is moved to the front.
    pub(super) fn space(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        self.buffer
            .reserve(READ_SIZE.saturating_sub(self.buffer.len()));
        &mut self.buffer
    }

    /// Takes the next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, FrameTooLarge> {
        let unread = self.buffer.get(self.begin..).unwrap_or_default();
        let Some((prefix, rest)) = unread.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let announced = u32::from_be_bytes(*prefix);
        let length = announced as usize;
        if length > LARGEST_FRAME {
            return Err(FrameTooLarge(announced));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.begin + PREFIX;
        self.begin = start + length;
        Ok(self.buffer.get(start..self.begin))
    }
}

/// Bytes to QEMU that it has not taken yet.
pub(super) struct Outgoing {
    buffer: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            sent: 0,
        }
    }

    /// What has yet to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        self.buffer.get(self.sent..).unwrap_or_default()
    }

    /// Notes that so many of the unsent bytes are sent.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.buffer.len() {
            self.buffer.clear();
            self.sent = 0;
        } else if self.sent > HIGH_WATER {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Whether there is room for packets that can be sent later just as well.
    pub(super) fn has_room(&self) -> bool {
        self.unsent().len() < HIGH_WATER
    }

    /// Whether there is room for packets that are lost otherwise.
    pub(super) fn has_room_for_urgent(&self) -> bool {
        self.unsent().len() < LIMIT
    }

    /// Appends a frame with an IP packet of `length` bytes that `fill` writes
    /// into zeroes; its version tells the frame's type.
    pub(super) fn packet<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let begin = self.buffer.len();
        let result = self.frame(EthernetProtocol::Ipv4, length, fill);
        let header = begin + PREFIX..begin + PREFIX + HEADER;
        let version = self.buffer.get(header.end).map(|byte| byte >> 4);
        if version == Some(6)
            && let Some(header) = self.buffer.get_mut(header)
        {
            EthernetFrame::new_unchecked(header).set_ethertype(EthernetProtocol::Ipv6);
        }
        result
    }

    /// Appends a frame to the guest with an IP or ARP packet of `length` bytes
    /// that `fill` writes into zeroes.
    pub(super) fn frame<R>(
        &mut self,
        ethertype: EthernetProtocol,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let begin = self.buffer.len();
        let announced = u32::try_from(HEADER + length).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(&announced.to_be_bytes());
        self.buffer.resize(begin + PREFIX + HEADER + length, 0);
        let frame = &mut self.buffer[begin + PREFIX..];
        let (header, packet) = frame.split_at_mut(HEADER);
        EthernetRepr {
            src_addr: EthernetAddress(GATEWAY_MAC),
            dst_addr: EthernetAddress(GUEST_MAC),
            ethertype,
        }
        .emit(&mut EthernetFrame::new_unchecked(header));
        fill(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameTooLarge> {
        let mut incoming = Incoming::new();
        let mut frames = Vec::new();
        for chunk in chunks {
            incoming.space().extend_from_slice(chunk);
            while let Some(frame) = incoming.next()? {
                frames.push(frame.to_vec());
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let stream = [0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        let expected = vec![vec![1, 2, 3], vec![], vec![9]];
        assert_eq!(frames(&[&stream]).unwrap(), expected);
        for cut in 0..stream.len() {
            let (one, two) = stream.split_at(cut);
            assert_eq!(frames(&[one, two]).unwrap(), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frames(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_frame_of_impossible_length_ends_the_stream() {
        assert!(frames(&[&[0xff, 0xff, 0xff, 0xff]]).is_err());
    }

    #[test]
    fn what_is_sent_can_be_read_again() {
        let mut outgoing = Outgoing::new();
        for length in [5, 1500] {
            outgoing.frame(EthernetProtocol::Arp, length, |packet| packet.fill(7));
        }
        let mut incoming = Incoming::new();
        // Taken in two parts.
        incoming.space().extend_from_slice(&outgoing.unsent()[..10]);
        outgoing.advance(10);
        incoming.space().extend_from_slice(outgoing.unsent());
        outgoing.advance(outgoing.unsent().len());
        assert!(outgoing.unsent().is_empty());
        for length in [5, 1500] {
            let frame = incoming.next().unwrap().unwrap();
            assert_eq!(frame.len(), HEADER + length);
            let frame = EthernetFrame::new_checked(frame).unwrap();
            assert_eq!(frame.dst_addr(), EthernetAddress(GUEST_MAC));
            assert!(frame.payload().iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_guest_that_reads_nothing_fills_no_memory() {
        let mut outgoing = Outgoing::new();
        while outgoing.has_room() {
            outgoing.frame(EthernetProtocol::Ipv4, 60000, |_| ());
        }
        assert!(outgoing.has_room_for_urgent());
        while outgoing.has_room_for_urgent() {
            outgoing.frame(EthernetProtocol::Ipv4, 60000, |_| ());
        }
        assert!(outgoing.unsent().len() < LIMIT + LARGEST_FRAME + PREFIX);
    }
}
