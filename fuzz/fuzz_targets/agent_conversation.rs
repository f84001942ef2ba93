//! The agent's port: the answer to the preamble, and the yamux streams after it.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sandbox_protocol::agent::{mux, preamble};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The host's nonce, which a guest reads before it answers.
const NONCE: preamble::Nonce = *b"0123456789abcdef";

fuzz_target!(|input: (bool, &[u8])| {
    let (answers, bytes) = input;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        // Time passes only if all tasks wait, so a hang ends at once.
        .start_paused(true)
        .build()
        .expect("a runtime without drivers needs nothing of the system");
    runtime.block_on(async {
        let (mut host, mut guest) = tokio::io::duplex(1 << 20);
        if answers && guest.write_all(&preamble::encode(&NONCE)).await.is_err() {
            return;
        }
        if guest.write_all(bytes).await.is_err() || guest.shutdown().await.is_err() {
            return;
        }
        if preamble::call(&mut host, &NONCE).await.is_err() {
            return;
        }
        let (opener, drive) = mux::host(host);
        let talk = async {
            let mut stream = opener.open().await?;
            stream.write_all(b"request").await?;
            stream.flush().await?;
            let mut answer = Vec::new();
            stream.take(1 << 20).read_to_end(&mut answer).await
        };
        // A conversation over a stream that has ended must end.
        let ended = async { tokio::join!(drive, talk) };
        let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
        assert!(ended.is_ok(), "the conversation hangs");
    });
});
