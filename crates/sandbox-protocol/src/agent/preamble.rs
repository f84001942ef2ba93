//! How a conversation begins on a byte stream that knows no connections.
//!
//! The host writes a preamble with a random nonce, the agent answers with the
//! same nonce. Each side passes over whatever comes before the preamble that
//! it waits for: remains of an earlier conversation that broke off.
//!
//! An agent that begins to wait says so, by a preamble with the nonce
//! [`WAITING`]: a host that still believes in a conversation with its
//! predecessor finds no frame in it, and calls anew.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::agent::VERSION;

/// First bytes of a preamble. The first one occurs in no UTF-8 text, and the
/// whole in no frame header of yamux, which begin with a zero.
const MAGIC: [u8; 12] = *b"\xffsbx-agent\r\n";

/// Bytes that tell one conversation from another.
pub type Nonce = [u8; 16];

/// The nonce of an agent that waits for a call. No host calls with it.
pub const WAITING: Nonce = [0; 16];

/// Length of a preamble in bytes: magic, version (big endian), nonce.
pub const LENGTH: usize = MAGIC.len() + 4 + 16;

/// How many bytes a peer may send before its preamble.
const NOISE_LIMIT: usize = 16 << 20;

/// Why no conversation began.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// The stream failed or ended.
    #[error("the port of the guest agent failed")]
    Stream(#[from] io::Error),
    /// The peer speaks another version.
    #[error(
        "the peer speaks version {theirs} of the agent's protocol, this program speaks {VERSION}"
    )]
    Version {
        /// The peer's version.
        theirs: u32,
    },
    /// There was no preamble in a long stream of bytes.
    #[error("the port of the guest agent carries something else")]
    Noise,
}

/// The bytes of a preamble.
pub fn encode(nonce: &Nonce) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let (magic, rest) = bytes.split_at_mut(MAGIC.len());
    let (version, tail) = rest.split_at_mut(4);
    magic.copy_from_slice(&MAGIC);
    version.copy_from_slice(&VERSION.to_be_bytes());
    tail.copy_from_slice(nonce);
    bytes
}

/// Begins a conversation as the host: sends the preamble and waits for its
/// answer. What comes after the answer is left in the stream.
///
/// # Errors
/// When the stream fails, or its other side is no agent of this version.
pub async fn call<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    nonce: &Nonce,
) -> Result<(), PreambleError> {
    stream.write_all(&encode(nonce)).await?;
    stream.flush().await?;
    answered(stream, nonce).await
}

/// The second half of [`call`]: waits for the answer.
///
/// # Errors
/// As those of [`call`].
pub async fn answered<S: AsyncRead + Unpin>(
    stream: &mut S,
    nonce: &Nonce,
) -> Result<(), PreambleError> {
    let mut scanner = Scanner::default();
    loop {
        let (version, answered) = scanner.next(stream).await?;
        // An answer to an earlier call is noise, too.
        if answered != *nonce {
            continue;
        }
        return match version {
            VERSION => Ok(()),
            theirs => Err(PreambleError::Version { theirs }),
        };
    }
}

/// Says that the agent waits for a conversation, waits for it, and answers. A
/// host of another version gets an answer, too, so that it can tell.
///
/// # Errors
/// When the stream fails or the host is of another version.
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

/// Finds preambles in a stream of bytes.
#[derive(Debug, Default)]
struct Scanner {
    window: Vec<u8>,
    noise: usize,
}

impl Scanner {
    /// Version and nonce of the next preamble. Reads no byte beyond it.
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
            if let Some(preamble) = self.complete() {
                self.window.clear();
                return Ok(preamble);
            }
        }
    }

    /// Drops what cannot be the beginning of a preamble.
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

    fn complete(&self) -> Option<(u32, Nonce)> {
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
    async fn a_preamble_is_found_behind_any_noise_and_nothing_beyond_it_is_read() {
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
    async fn noise_without_end_is_an_error() {
        let noise = vec![b'x'; NOISE_LIMIT + LENGTH + 1];
        assert!(matches!(scan(&noise).await, Err(PreambleError::Noise)));
        assert!(matches!(scan(b"x").await, Err(PreambleError::Stream(_))));
    }

    #[tokio::test]
    async fn both_sides_agree_on_a_nonce_after_an_earlier_answer() {
        let (mut host, mut guest) = tokio::io::duplex(64);
        let agent = tokio::spawn(async move {
            guest.write_all(&encode(b"an older callers")).await.unwrap();
            answer(&mut guest).await.unwrap()
        });
        call(&mut host, &NONCE).await.unwrap();
        assert_eq!(agent.await.unwrap(), NONCE);
    }

    #[tokio::test]
    async fn another_version_is_named() {
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
