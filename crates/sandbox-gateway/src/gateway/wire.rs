//! Frames between QEMU and the gateway. QEMU's stream back end puts a length of four bytes in
//! network order before each frame (qemu/net/stream.c).

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr};

use sandbox_spec::guest_network::{GATEWAY_MAC, GUEST_MAC, MTU};

/// Size of the length before each frame, in bytes.
const PREFIX: usize = 4;

/// Size of an Ethernet header, in bytes.
const HEADER: usize = 14;

/// The largest frame in either direction, in bytes, with room for a VLAN tag.
const LARGEST_FRAME: usize = MTU as usize + HEADER + 4;

/// The most that one read takes from QEMU, in bytes.
const READ_SIZE: usize = 256 << 10;

/// The number of unsent bytes from which on TCP waits.
const HIGH_WATER: usize = 512 << 10;

/// The number of unsent bytes from which on the gateway drops packets that cannot wait.
const LIMIT: usize = 1 << 20;

/// QEMU announced a frame larger than [`LARGEST_FRAME`]. It sends none that large.
#[derive(Debug, thiserror::Error)]
#[error("QEMU announced a frame of {0} bytes")]
pub(super) struct FrameTooLarge(u32);

/// Bytes from QEMU that wait to be split into frames.
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

    /// Returns the buffer to append read bytes to, and moves the unread bytes to its front.
    pub(super) fn space(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        self.buffer
            .reserve(READ_SIZE.saturating_sub(self.buffer.len()));
        &mut self.buffer
    }

    /// Returns the next complete frame, or `None` until more bytes arrive.
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

/// Bytes that QEMU has not taken yet.
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

    /// Returns the bytes that are still to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        self.buffer.get(self.sent..).unwrap_or_default()
    }

    /// Removes `count` sent bytes.
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

    /// Returns whether there is room for packets that can wait.
    pub(super) fn has_room(&self) -> bool {
        self.unsent().len() < HIGH_WATER
    }

    /// Returns whether there is room for packets that cannot wait.
    pub(super) fn has_room_for_urgent(&self) -> bool {
        self.unsent().len() < LIMIT
    }

    /// Appends a frame with an IP packet of `length` zeroed bytes that `fill` writes to. The
    /// packet's IP version sets the frame's type.
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

    /// Appends a frame with an IP or ARP packet of `length` zeroed bytes that `fill` writes to.
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
    fn incoming_finds_frames_at_every_split_of_the_stream() {
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
    fn incoming_rejects_oversized_frames() {
        assert!(frames(&[&[0xff, 0xff, 0xff, 0xff]]).is_err());
    }

    #[test]
    fn incoming_reads_the_frames_of_outgoing() {
        let mut outgoing = Outgoing::new();
        for length in [5, 1500] {
            outgoing.frame(EthernetProtocol::Arp, length, |packet| packet.fill(7));
        }
        let mut incoming = Incoming::new();
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
    fn outgoing_is_bounded_if_the_guest_reads_nothing() {
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
