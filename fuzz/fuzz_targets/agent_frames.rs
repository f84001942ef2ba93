//! The agent's frames, as a command reads them from its stream.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sandbox_protocol::agent::frame::{GUEST_FRAME_LIMIT, GuestFrame, guest_codec};
use tokio_util::codec::Decoder;

fuzz_target!(|bytes: &[u8]| {
    let mut codec = guest_codec();
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(frame)) = codec.decode(&mut buffer) {
        assert!(frame.len() <= GUEST_FRAME_LIMIT);
        if let Ok(decoded) = GuestFrame::decode(&frame.freeze()) {
            let again = GuestFrame::decode(&decoded.encode());
            assert_eq!(again.ok().as_ref(), Some(&decoded));
        }
    }
});
