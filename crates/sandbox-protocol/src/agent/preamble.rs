//! Starts a conversation on a byte stream without connections.
//!
//! The host sends a preamble with a random nonce, and the agent answers with
//! the same nonce. Each side skips all bytes before the preamble that it waits
//! for: they are the rest of a broken conversation.
//!
//! An agent that starts to wait sends a preamble with the nonce [`WAITING`]. It
//! is not a valid yamux frame, so a host that is still in a conversation with
//! an earlier agent notices and calls again.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::agent::VERSION;

/// The first bytes of a preamble. The first of them never occurs in UTF-8 text.
/// All twelve never occur in a yamux frame header, whose first byte is zero.
const MAGIC: [u8; 12] = *b"\xffsbx-agent\r\n";

/// The identifier of a conversation.
pub type Nonce = [u8; 16];

/// The nonce of an agent that waits for a call. A host never calls with it.
pub const WAITING: Nonce = [0; 16];

/// The length of a preamble in bytes: magic (12), version (4, big endian), nonce
/// (16).
pub const LENGTH: usize = MAGIC.len() + 4 + 16;

/// The maximum number of bytes before a preamble.
const NOISE_LIMIT: usize = 16 << 20;

/// A conversation that could not start.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// The stream failed or ended.
    #[error("could not exchange preambles on the guest agent's port")]
    Stream(#[from] io::Error),
    /// The peer speaks another version.
    #[error("the peer speaks version {theirs} of the agent protocol, not version {VERSION}")]
    Version {
        /// The peer's version.
        theirs: u32,
    },
    /// The peer sent too many bytes without a preamble.
    #[error("could not find a preamble in {} MiB from the guest agent's port", NOISE_LIMIT >> 20)]
    Noise,
}

/// Encodes a preamble.
pub fn encode(nonce: &Nonce) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let (magic, rest) = bytes.split_at_mut(MAGIC.len());
    let (version, tail) = rest.split_at_mut(4);
    magic.copy_from_slice(&MAGIC);
    version.copy_from_slice(&VERSION.to_be_bytes());
    tail.copy_from_slice(nonce);
    bytes
}

/// Starts a conversation as the host: sends a preamble and waits for its
/// answer. Reads no byte after the answer.
///
/// # Errors
/// When the stream fails, or the peer is not an agent of this version.
pub async fn call<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    nonce: &Nonce,
) -> Result<(), PreambleError> {
    stream.write_all(&encode(nonce)).await?;
    stream.flush().await?;
    answered(stream, nonce).await
}

/// Waits for the answer to a preamble: the second half of [`call`].
///
/// # Errors
/// The same as [`call`].
pub async fn answered<S: AsyncRead + Unpin>(
    stream: &mut S,
    nonce: &Nonce,
) -> Result<(), PreambleError> {
    let mut scanner = Scanner::default();
    loop {
        let (version, answered) = scanner.next(stream).await?;
        // An answer to an earlier call is also noise.
        if answered != *nonce {
            continue;
        }
        return match version {
            VERSION => Ok(()),
            theirs => Err(PreambleError::Version { theirs }),
        };
    }
}

/// Starts a conversation as the agent: announces that it waits, waits for a
/// call, and answers. It also answers a host of another version, so that the
/// host can report the difference.
///
/// # Errors
/// When the stream fails, or the host speaks another version.
pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<Nonce, PreambleError> {
    stream.write_all(&encode(&WAITING)).await?;
    stream.flush().await?;
    let (version, nonce) = Scanner::default().next(stream).await?;
    stream.write_all(&encode(&nonce)).await?;
    stream.flush().await?;
    match version {
        VERSION => Ok(nonce),
        theirs => Err(PreambleError::Version { theirs }),
    }
}

/// Finds preambles in a byte stream.
#[derive(Debug, Default)]
struct Scanner {
    window: Vec<u8>,
    noise: usize,
}

impl Scanner {
    /// Returns version and nonce of the next preamble. Reads no byte after it.
    async fn next<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<(u32, Nonce), PreambleError> {
        loop {
            let missing = LENGTH - self.window.len();
            let read = stream
                .take(missing as u64)
                .read_buf(&mut self.window)
                .await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.drop_noise()?;
            if let Some(preamble) = self.parse() {
                self.window.clear();
                return Ok(preamble);
            }
        }
    }

    /// Drops all leading bytes that cannot start a preamble.
    fn drop_noise(&mut self) -> Result<(), PreambleError> {
        let start = (0..self.window.len())
            .find(|&start| {
                let rest = &self.window[start..];
                let length = rest.len().min(MAGIC.len());
                rest[..length] == MAGIC[..length]
            })
            .unwrap_or(self.window.len());
        self.window.drain(..start);
        self.noise += start;
        if self.noise > NOISE_LIMIT {
            return Err(PreambleError::Noise);
        }
        Ok(())
    }

    fn parse(&self) -> Option<(u32, Nonce)> {
        let (version, nonce) = self.window.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
        Some((u32::from_be_bytes(*version), nonce.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = *b"0123456789abcdef";

    async fn scan(bytes: &[u8]) -> Result<(u32, Nonce), PreambleError> {
        Scanner::default().next(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn scanner_skips_noise_and_reads_nothing_after_the_preamble() {
        for noise in [
            &b""[..],
            b"x",
            b"\xff",
            b"\xffsbx-agent",
            b"\xff\xffsbx-agent\r\xffsbx",
            &[0; 5000],
        ] {
            let bytes = [noise, &encode(&NONCE), b"rest"].concat();
            let mut stream = &bytes[..];
            let found = Scanner::default().next(&mut stream).await.unwrap();
            assert_eq!(found, (VERSION, NONCE), "{noise:?}");
            assert_eq!(stream, b"rest");
        }
    }

    #[tokio::test]
    async fn scanner_fails_after_too_much_noise() {
        let noise = vec![b'x'; NOISE_LIMIT + LENGTH + 1];
        assert!(matches!(scan(&noise).await, Err(PreambleError::Noise)));
        assert!(matches!(scan(b"x").await, Err(PreambleError::Stream(_))));
    }

    #[tokio::test]
    async fn call_ignores_the_answer_to_an_earlier_call() {
        let (mut host, mut guest) = tokio::io::duplex(64);
        let agent = tokio::spawn(async move {
            guest.write_all(&encode(b"an older callers")).await.unwrap();
            answer(&mut guest).await.unwrap()
        });
        call(&mut host, &NONCE).await.unwrap();
        assert_eq!(agent.await.unwrap(), NONCE);
    }

    #[tokio::test]
    async fn call_to_another_version_reports_that_version() {
        let mut bytes = encode(&NONCE);
        bytes[15] = 9;
        let (mut host, mut guest) = tokio::io::duplex(64);
        guest.write_all(&bytes).await.unwrap();
        let error = call(&mut host, &NONCE).await.unwrap_err();
        assert!(
            matches!(error, PreambleError::Version { theirs: 9 }),
            "{error}"
        );
    }
}
