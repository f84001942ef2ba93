//! The signals that end a supervisor in its own process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Owner;

/// SIGTERM and SIGINT, if the supervisor has its own process.
pub(super) struct Terminations(Option<[Signal; 2]>);

impl Terminations {
    /// Handles the signals of a supervisor process. A supervisor thread leaves the signals to its
    /// program.
    pub(super) fn of(owner: Owner) -> io::Result<Self> {
        Ok(Self(match owner {
            Owner::Process => Some([
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ]),
            Owner::Thread => None,
        }))
    }

    /// Waits for a signal. Safe to cancel.
    pub(super) async fn next(&mut self) {
        match &mut self.0 {
            Some([terminate, interrupt]) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            None => std::future::pending().await,
        }
    }
}
