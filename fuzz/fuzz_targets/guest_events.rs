//! The lines of the event port, in any cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox_protocol::guest_event::{EventReader, GuestEvent};

/// The longest text of an event, in characters.
const TEXT_LIMIT: usize = 500;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut whole = EventReader::default();
    let at_once = whole.feed(&pieces.concat());
    let mut cut = EventReader::default();
    let in_pieces: Vec<_> = pieces.iter().flat_map(|piece| cut.feed(piece)).collect();
    assert_eq!(at_once, in_pieces);
    for event in &at_once {
        if let GuestEvent::Waiting { reason } | GuestEvent::Failed { reason } = event {
            assert!(reason.chars().count() <= TEXT_LIMIT);
            assert!(!reason.contains(char::is_control));
        }
    }
});
