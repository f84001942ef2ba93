//! How much input a program may still be sent.

use std::sync::atomic::{AtomicUsize, Ordering};

use sandbox_protocol::agent::frame::INPUT_WINDOW;
use tokio::sync::Semaphore;

/// How much input the program may still be sent, in bytes.
pub(super) struct Credit {
    room: Semaphore,
    /// Bytes that were sent and not yet taken.
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
    /// Waits for room for `length` bytes. False if there will never be any.
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

    /// Takes the agent's word that it took `length` bytes, as far as it got as many.
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
    async fn credit_is_no_larger_than_what_was_sent() {
        let credit = Credit::default();
        assert!(credit.take(100).await);
        credit.give_back(usize::MAX);
        assert_eq!(credit.room.available_permits(), INPUT_WINDOW);
    }
}
