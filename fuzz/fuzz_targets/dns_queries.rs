//! Messages to the gateway's DNS server.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox_gateway::dns::{Received, read};

fuzz_target!(|message: &[u8]| {
    match read(message) {
        Received::Question(question) => {
            assert!(question.name.as_str().len() <= 253);
        }
        Received::NoName(answer) | Received::Refused(answer) => {
            // The answer has the identifier of the query.
            assert!(answer.len() >= 12 && answer[..2] == message[..2] && answer[2] & 0x80 != 0);
        }
        Received::Noise => {}
    }
});
