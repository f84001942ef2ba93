//! State that all parts of the gateway share: the bytes on their way to QEMU, the clock and the
//! source of random seeds.

use std::cell::{Cell, RefCell};

use smoltcp::time::Instant;
use tokio::sync::Notify;
use tokio::time;

use super::wire::Outgoing;

/// The link to the guest.
pub(super) struct Link {
    outgoing: RefCell<Outgoing>,
    unsent: Notify,
    started: time::Instant,
    seed: Cell<u64>,
}

impl Link {
    /// Creates a link without unsent bytes. `seed` must be random.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            outgoing: RefCell::new(Outgoing::new()),
            unsent: Notify::new(),
            started: time::Instant::now(),
            seed: Cell::new(seed),
        }
    }

    /// Calls `write`, which appends frames.
    ///
    /// # Panics
    ///
    /// If `write` calls this function again.
    pub(super) fn write<R>(&self, write: impl FnOnce(&mut Outgoing) -> R) -> R {
        let mut outgoing = self.outgoing.borrow_mut();
        let result = write(&mut outgoing);
        if !outgoing.unsent().is_empty() {
            self.unsent.notify_one();
        }
        result
    }

    /// Waits until frames may have been appended.
    pub(super) async fn written(&self) {
        self.unsent.notified().await;
    }

    /// Returns the current time on smoltcp's clock, which starts with the gateway.
    pub(super) fn now(&self) -> Instant {
        self.at(time::Instant::now())
    }

    /// Converts a time of the runtime's clock into one of smoltcp's.
    pub(super) fn at(&self, moment: time::Instant) -> Instant {
        let elapsed = moment.saturating_duration_since(self.started);
        Instant::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }

    /// Converts a time of smoltcp's clock into one of the runtime's.
    pub(super) fn moment(&self, instant: Instant) -> time::Instant {
        let micros = u64::try_from(instant.total_micros()).unwrap_or(0);
        self.started + std::time::Duration::from_micros(micros)
    }

    /// Returns the random seed of the next connection. No seed repeats.
    pub(super) fn next_seed(&self) -> u64 {
        // A Weyl sequence: this odd increment, 2^64 divided by the golden ratio, reaches every
        // number before it repeats one.
        let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(seed);
        seed
    }
}
