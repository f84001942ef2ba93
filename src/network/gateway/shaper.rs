//! A bound on bytes per second, the same for each direction.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::tcp::GuestStream;

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

    /// Accounts for bytes; gives what to wait for.
    fn delay(&self, direction: &Direction, bytes: usize) -> Option<Pin<Box<Sleep>>> {
        let rate = self.bytes_per_second?;
        Some(Box::pin(sleep_until(direction.account(bytes, rate))))
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

/// A stream of the guest's whose reader and writer wait until bytes are due.
pub(super) struct Shaped {
    stream: GuestStream,
    shaper: Rc<Shaper>,
    up: Option<Pin<Box<Sleep>>>,
    down: Option<Pin<Box<Sleep>>>,
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

/// Whether a stream may go on.
fn poll_due(sleep: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<()> {
    if let Some(sleeping) = sleep {
        ready!(sleeping.as_mut().poll(context));
        *sleep = None;
    }
    Poll::Ready(())
}

impl AsyncRead for Shaped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(poll_due(&mut self.up, context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let bytes = buffer.filled().len() - before;
        self.up = self.shaper.delay(&self.shaper.up, bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Shaped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(poll_due(&mut self.down, context));
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.down = self.shaper.delay(&self.shaper.down, written);
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
