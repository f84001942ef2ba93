//! Signals that end a supervisor which is a process of its own.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Owner;

/// SIGTERM and SIGINT, as far as they are the supervisor's.
pub(super) struct Terminations(Option<[Signal; 2]>);

impl Terminations {
    /// Takes the signals of a process; leaves those of a program that has the supervisor in a
    /// thread alone.
    pub(super) fn of(owner: Owner) -> io::Result<Self> {
        Ok(Self(match owner {
            Owner::Process => Some([
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ]),
            Owner::Thread => None,
        }))
    }

    /// Waits for one. May be cancelled.
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
