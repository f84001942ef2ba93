//! What all parts of the gateway share: the bytes on their way to QEMU, and
//! the clock.

use std::cell::{Cell, RefCell};

use smoltcp::time::Instant;
use tokio::sync::Notify;
use tokio::time;

use super::wire::Outgoing;

/// The way to the guest.
pub(super) struct Link {
    outgoing: RefCell<Outgoing>,
    unsent: Notify,
    started: time::Instant,
    seed: Cell<u64>,
}

impl Link {
    /// `seed` is random.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            outgoing: RefCell::new(Outgoing::new()),
            unsent: Notify::new(),
            started: time::Instant::now(),
            seed: Cell::new(seed),
        }
    }

    /// Lets `write` append frames. Must not be nested.
    pub(super) fn write<R>(&self, write: impl FnOnce(&mut Outgoing) -> R) -> R {
        let mut outgoing = self.outgoing.borrow_mut();
        let result = write(&mut outgoing);
        if !outgoing.unsent().is_empty() {
            self.unsent.notify_one();
        }
        result
    }

    /// Waits until something may have been appended.
    pub(super) async fn written(&self) {
        self.unsent.notified().await;
    }

    /// The time as smoltcp counts it, from the gateway's start on.
    pub(super) fn now(&self) -> Instant {
        self.at(time::Instant::now())
    }

    /// A moment of the runtime's clock, as smoltcp counts it.
    pub(super) fn at(&self, moment: time::Instant) -> Instant {
        let elapsed = moment.saturating_duration_since(self.started);
        Instant::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }

    /// The moment that smoltcp means.
    pub(super) fn moment(&self, instant: Instant) -> time::Instant {
        let micros = u64::try_from(instant.total_micros()).unwrap_or(0);
        self.started + std::time::Duration::from_micros(micros)
    }

    /// A number that differs for each connection.
    pub(super) fn next_seed(&self) -> u64 {
        // Weyl's sequence with the golden ratio: never the same twice.
        let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(seed);
        seed
    }
}
