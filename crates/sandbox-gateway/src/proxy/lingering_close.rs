//! Closing a connection without a reset.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::limits::{LINGER, LINGER_BYTES};

/// Closes a connection so that the client reads the last answer.
///
/// Data that arrives after a plain close causes a reset, and a client discards unread data at a
/// reset. So this first reads and discards the client's remaining data, within limits.
pub(super) async fn close<S>(mut guest: S) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let closing = async {
        guest.shutdown().await?;
        let mut rest = guest.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        Ok(())
    };
    tokio::time::timeout(LINGER, closing)
        .await
        .unwrap_or(Ok(()))
}
