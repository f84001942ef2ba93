//! A bound on bytes per second, the same for each direction.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How far transfers may run ahead of the rate.
const BURST: Duration = Duration::from_millis(100);

/// Makes senders wait so that together they keep to a rate.
pub(super) struct Shaper {
    up: Direction,
    down: Direction,
    bytes_per_second: Option<u64>,
}

/// When all that was sent so far would have been sent at the rate.
struct Direction(Cell<Instant>);

impl Direction {
    fn new() -> Self {
        Self(Cell::new(Instant::now()))
    }

    /// Accounts for bytes; gives the moment at which they are due.
    fn account(&self, bytes: usize, bytes_per_second: u64) -> Instant {
        let earliest = Instant::now().checked_sub(BURST);
        let begin = self.0.get().max(earliest.unwrap_or_else(Instant::now));
        let takes = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
        self.0.set(begin + takes);
        self.0.get()
    }
}

impl Shaper {
    /// A bound in bytes per second, at least 1; none without.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            up: Direction::new(),
            down: Direction::new(),
            bytes_per_second: bytes_per_second.map(|rate| rate.max(1)),
        }
    }

    /// Accounts for bytes from the guest, and waits until they are due.
    pub(super) async fn up(&self, bytes: usize) {
        self.wait(&self.up, bytes).await;
    }

    /// Accounts for bytes to the guest, and waits until they are due.
    pub(super) async fn down(&self, bytes: usize) {
        self.wait(&self.down, bytes).await;
    }

    /// Whether bytes from the guest that cannot wait may pass now.
    pub(super) fn admits_up(&self, bytes: usize) -> bool {
        self.admits(&self.up, bytes)
    }

    /// Whether bytes to the guest that cannot wait may pass now.
    pub(super) fn admits_down(&self, bytes: usize) -> bool {
        self.admits(&self.down, bytes)
    }

    async fn wait(&self, direction: &Direction, bytes: usize) {
        if let Some(rate) = self.bytes_per_second {
            sleep_until(direction.account(bytes, rate)).await;
        }
    }

    fn admits(&self, direction: &Direction, bytes: usize) -> bool {
        let Some(rate) = self.bytes_per_second else {
            return true;
        };
        let admits = direction.0.get() <= Instant::now();
        if admits {
            direction.account(bytes, rate);
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn together_transfers_keep_to_the_rate_and_each_direction_has_its_own() {
        let shaper = Shaper::new(Some(1000));
        let begin = Instant::now();
        let transfer = async || {
            for _ in 0..10 {
                shaper.up(500).await;
            }
        };
        tokio::join!(transfer(), transfer());
        assert!(begin.elapsed() >= Duration::from_secs(10) - BURST);
        assert!(begin.elapsed() < Duration::from_secs(11));
        assert!(shaper.admits_down(100));
        assert!(shaper.admits_up(500));
        assert!(!shaper.admits_up(1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_nothing_waits() {
        let shaper = Shaper::new(None);
        let begin = Instant::now();
        shaper.down(usize::MAX).await;
        assert!(shaper.admits_down(usize::MAX));
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
