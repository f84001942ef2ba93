//! How a TLS connection is refused before it has begun.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::limits::{LINGER, LINGER_BYTES};

/// Descriptions of fatal alerts (RFC 8446, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alert {
    AccessDenied = 49,
    InternalError = 80,
    UnrecognizedName = 112,
}

/// Sends a fatal alert and ends the connection. Clients show it, where a reset would only puzzle.
pub(super) async fn refuse<S>(mut guest: S, alert: Alert)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    let record = [ALERT, 3, 3, 0, 2, FATAL, alert as u8];
    let ending = async {
        guest.write_all(&record).await?;
        close(guest).await
    };
    // A guest that is gone needs no alert.
    let _ = ending.await;
}

/// Ends a connection so that what was sent last is read: a reset could overtake it.
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
