//! The flow control of a program's input.

use std::sync::atomic::{AtomicUsize, Ordering};

use sandbox_protocol::agent::frame::INPUT_WINDOW;
use tokio::sync::Semaphore;

/// The number of input bytes that the host may still send to the program.
pub(super) struct Credit {
    room: Semaphore,
    /// Sent bytes that the agent has not acknowledged.
    outstanding: AtomicUsize,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            room: Semaphore::new(INPUT_WINDOW),
            outstanding: AtomicUsize::new(0),
        }
    }
}

impl Credit {
    /// Waits for room for `length` bytes. Returns false if `length` exceeds 32 bits.
    pub(super) async fn take(&self, length: usize) -> bool {
        let Ok(permits) = u32::try_from(length) else {
            return false;
        };
        let Ok(room) = self.room.acquire_many(permits).await else {
            return false;
        };
        room.forget();
        self.outstanding.fetch_add(length, Ordering::Relaxed);
        true
    }

    /// Returns the room of `length` acknowledged bytes.
    ///
    /// The agent is untrusted, so acknowledgements beyond the sent bytes do not count.
    pub(super) fn give_back(&self, length: usize) {
        let mut taken = 0;
        let subtract = |outstanding: usize| {
            taken = length.min(outstanding);
            Some(outstanding - taken)
        };
        let _ = self
            .outstanding
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
        self.room.add_permits(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn give_back_beyond_sent_bytes_restores_window_only() {
        let credit = Credit::default();
        assert!(credit.take(100).await);
        credit.give_back(usize::MAX);
        assert_eq!(credit.room.available_permits(), INPUT_WINDOW);
    }
}
