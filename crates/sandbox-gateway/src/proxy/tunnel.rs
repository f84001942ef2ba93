//! Copies bytes in both directions.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

use super::limits::{TUNNEL_BUFFER, TUNNEL_IDLE};
use super::metered_stream::LastActivity;

/// Carries bytes until both sides have ended, one has failed, nothing came for four hours, or
/// `denied` ends. The end of one direction closes it towards the other side. The other direction
/// stays open.
pub(super) async fn carry<A, B>(
    mut guest: A,
    mut upstream: B,
    last: LastActivity,
    denied: impl Future<Output = ()>,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    const _: () = assert!(TUNNEL_IDLE.as_secs() > Duration::from_secs(3600).as_secs());
    tokio::select! {
        // An error closes both connections. Nobody else needs its report.
        _ = copy_bidirectional_with_sizes(&mut guest, &mut upstream, TUNNEL_BUFFER, TUNNEL_BUFFER) => {}
        () = last.idle_for(TUNNEL_IDLE) => {}
        () = denied => {}
    }
}
