//! The first bytes of a TLS connection, from which the proxy reads the host name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox_gateway::proxy::client_hello::server_name;

fuzz_target!(|bytes: &[u8]| {
    let whole = server_name(bytes);
    // More bytes never change the decision about the first ones.
    for cut in 0..bytes.len().min(64) {
        match server_name(&bytes[..cut]) {
            Ok(None) => {}
            decided => assert_eq!(decided, whole),
        }
    }
});
