//! Fatal TLS alerts before the handshake.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::lingering_close;

/// Descriptions of fatal alerts (RFC 8446, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alert {
    AccessDenied = 49,
    InternalError = 80,
    UnrecognizedName = 112,
}

/// Sends a fatal alert and closes the connection. Clients report the alert. A reset has no reason.
pub(super) async fn send_fatal<S>(mut guest: S, alert: Alert)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    let record = [ALERT, 3, 3, 0, 2, FATAL, alert as u8];
    let sending = async {
        guest.write_all(&record).await?;
        lingering_close::close(guest).await
    };
    // A client that has closed the connection needs no alert.
    let _ = sending.await;
}
