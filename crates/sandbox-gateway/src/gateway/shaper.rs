//! The bandwidth limit: bytes per second, the same for each direction.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::tcp::GuestStream;

/// How far transfers may run ahead of the rate. Also the time for which one transfer may use the
/// whole rate before it queues again.
const BURST: Duration = Duration::from_millis(100);

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the guest.
    Up,
    /// To the guest.
    Down,
}

/// Delays transfers so that together they keep to a rate.
pub(super) struct Shaper {
    up: Schedule,
    down: Schedule,
    bytes_per_second: Option<u64>,
}

/// The time at which all admitted bytes will have passed at the rate.
struct Schedule(Cell<Instant>);

impl Schedule {
    fn new() -> Self {
        Self(Cell::new(Instant::now()))
    }

    /// Appends bytes. Returns the time at which the first of them is due.
    fn append(&self, bytes: usize, bytes_per_second: u64) -> Instant {
        let now = Instant::now();
        let begin = self.0.get().max(now.checked_sub(BURST).unwrap_or(now));
        self.0.set(begin + time_of(bytes, bytes_per_second));
        begin
    }

    /// Removes appended bytes that did not pass.
    fn take_back(&self, bytes: usize, bytes_per_second: u64) {
        let end = self.0.get();
        let taken = end.checked_sub(time_of(bytes, bytes_per_second));
        self.0.set(taken.unwrap_or(end));
    }
}

/// Returns the time that bytes take at a rate.
fn time_of(bytes: usize, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64)
}

impl Shaper {
    /// Creates a shaper for a rate in bytes per second, at least 1; unlimited if `None`.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            up: Schedule::new(),
            down: Schedule::new(),
            bytes_per_second: bytes_per_second.map(|rate| rate.max(1)),
        }
    }

    /// Returns whether there is a limit. Without one, transfers need no permit.
    pub(super) fn is_bound(&self) -> bool {
        self.bytes_per_second.is_some()
    }

    /// Reserves time for at most `bytes` bytes, and for at most [`BURST`]'s worth.
    pub(super) fn reserve(self: &Rc<Self>, direction: Direction, bytes: usize) -> Permit {
        let (bytes, due) = match self.bytes_per_second {
            None => (bytes, Instant::now()),
            Some(rate) => {
                let most = (rate as f64 * BURST.as_secs_f64()) as usize;
                let bytes = bytes.min(most.max(1));
                (bytes, self.schedule(direction).append(bytes, rate))
            }
        };
        Permit {
            shaper: self.clone(),
            direction,
            bytes,
            due: Box::pin(sleep_until(due)),
        }
    }

    /// Returns whether bytes that cannot wait may pass now, and counts them if so.
    pub(super) fn admits(&self, direction: Direction, bytes: usize) -> bool {
        let Some(rate) = self.bytes_per_second else {
            return true;
        };
        let schedule = self.schedule(direction);
        let admits = schedule.0.get() <= Instant::now();
        if admits {
            schedule.append(bytes, rate);
        }
        admits
    }

    fn schedule(&self, direction: Direction) -> &Schedule {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// The right to pass bytes from a certain time on. Dropping it returns the unused bytes.
pub(super) struct Permit {
    shaper: Rc<Shaper>,
    direction: Direction,
    bytes: usize,
    due: Pin<Box<Sleep>>,
}

impl Permit {
    /// Waits until the permit is due. Returns the number of bytes that may pass.
    pub(super) fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        self.due.as_mut().poll(context).map(|()| self.bytes)
    }

    /// Waits until the permit is due. Returns the number of bytes that may pass.
    pub(super) async fn due(&mut self) -> usize {
        self.due.as_mut().await;
        self.bytes
    }

    /// Uses the permit for `bytes` bytes, and returns the others.
    pub(super) fn spend(mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(rate) = self.shaper.bytes_per_second {
            self.shaper
                .schedule(self.direction)
                .take_back(self.bytes, rate);
        }
    }
}

/// A guest stream whose reader and writer wait until their bytes are due.
pub(super) struct Shaped {
    stream: GuestStream,
    shaper: Rc<Shaper>,
    up: Option<Permit>,
    down: Option<Permit>,
}

impl Shaped {
    pub(super) fn new(stream: GuestStream, shaper: Rc<Shaper>) -> Self {
        Self {
            stream,
            shaper,
            up: None,
            down: None,
        }
    }
}

impl AsyncRead for Shaped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.shaper.is_bound() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        if this.up.is_none() {
            let waiting = ready!(this.stream.poll_waiting(context))?;
            if waiting == 0 {
                // The end of the stream needs no permit.
                return Poll::Ready(Ok(()));
            }
            let wanted = waiting.min(buffer.remaining());
            this.up = Some(this.shaper.reserve(Direction::Up, wanted));
        }
        let Some(permit) = &mut this.up else {
            return Poll::Pending;
        };
        let most = ready!(permit.poll_due(context)).min(buffer.remaining());
        let read = this.stream.poll_take(context, |_, bytes| {
            let bytes = bytes.get(..most).unwrap_or(bytes);
            buffer.put_slice(bytes);
            (bytes.len(), bytes.len())
        });
        let read = ready!(read)?.unwrap_or(0);
        if let Some(permit) = this.up.take() {
            permit.spend(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Shaped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if !this.shaper.is_bound() {
            return Pin::new(&mut this.stream).poll_write(context, bytes);
        }
        let permit = this
            .down
            .get_or_insert_with(|| this.shaper.reserve(Direction::Down, bytes.len()));
        let most = ready!(permit.poll_due(context));
        let bytes = bytes.get(..most).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        if let Some(permit) = this.down.take() {
            permit.spend(written);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shaper_limits_all_transfers_of_one_direction_together() {
        let shaper = Rc::new(Shaper::new(Some(1000)));
        let begin = Instant::now();
        let transfer = async || {
            let mut left = 5000;
            while left > 0 {
                let mut permit = shaper.reserve(Direction::Up, left);
                let passed = permit.due().await;
                permit.spend(passed);
                left -= passed;
            }
        };
        tokio::join!(transfer(), transfer());
        assert!(begin.elapsed() >= Duration::from_secs(10) - 2 * BURST);
        assert!(begin.elapsed() < Duration::from_secs(11));
        assert!(shaper.admits(Direction::Down, 100));
        tokio::time::sleep(2 * BURST).await;
        assert!(shaper.admits(Direction::Up, 500));
        assert!(!shaper.admits(Direction::Up, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn shaper_delays_the_first_byte_of_each_concurrent_transfer() {
        let shaper = Rc::new(Shaper::new(Some(1000)));
        let begin = Instant::now();
        let mut permits: Vec<Permit> = (0..100)
            .map(|_| shaper.reserve(Direction::Down, 1 << 20))
            .collect();
        let mut passed = 0;
        for permit in &mut permits {
            passed += permit.due().await;
            let due = begin.elapsed() + 2 * BURST;
            assert!(time_of(passed, 1000) <= due, "{passed} after {due:?}");
        }
        assert_eq!(passed, 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn permit_returns_unused_bytes() {
        let shaper = Rc::new(Shaper::new(Some(1000)));
        for _ in 0..1000 {
            shaper.reserve(Direction::Up, 100).spend(0);
        }
        drop(shaper.reserve(Direction::Up, 100));
        assert!(shaper.admits(Direction::Up, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn shaper_without_a_limit_delays_nothing() {
        let shaper = Rc::new(Shaper::new(None));
        let begin = Instant::now();
        let mut permit = shaper.reserve(Direction::Down, usize::MAX);
        assert_eq!(permit.due().await, usize::MAX);
        assert!(shaper.admits(Direction::Down, usize::MAX));
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
