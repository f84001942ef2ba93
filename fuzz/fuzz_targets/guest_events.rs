//! The lines of the event port, in any cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox::guest::event::EventReader;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut whole = EventReader::default();
    let at_once = whole.feed(&pieces.concat());
    let mut cut = EventReader::default();
    let in_pieces: Vec<_> = pieces.iter().flat_map(|piece| cut.feed(piece)).collect();
    assert_eq!(at_once, in_pieces);
});
