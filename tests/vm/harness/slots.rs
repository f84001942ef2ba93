//! Limits the number of concurrent machines: each keeps two processors busy while it
//! boots.

use std::sync::{Condvar, Mutex, PoisonError};

static TAKEN: Mutex<usize> = Mutex::new(0);
static RETURNED: Condvar = Condvar::new();

/// The right to run some machines, returned when dropped.
pub(crate) struct Slots(usize);

impl Slots {
    /// Returns the maximum number of concurrent machines.
    pub(crate) fn most() -> usize {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        (processors / 2).max(2)
    }

    /// Waits until `wanted` more machines may run. All slots are taken in one step, so
    /// that two tests cannot wait for each other.
    pub(crate) fn take(wanted: usize) -> Self {
        let most = Self::most();
        assert!(wanted <= most, "no test needs more machines");
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = RETURNED
            .wait_while(taken, |taken| *taken + wanted > most)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += wanted;
        Self(wanted)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        RETURNED.notify_all();
    }
}
