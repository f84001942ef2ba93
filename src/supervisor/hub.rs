//! Where events meet their listeners, early and late ones alike.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::watch;

use sandbox_protocol::{Event, TimedEvent};

/// A history that grows and can be waited on. A start has some ten events, and
/// warnings are few, so all of them are kept.
#[derive(Clone)]
pub(super) struct Hub {
    started: Instant,
    history: Arc<Mutex<Vec<TimedEvent>>>,
    length: watch::Sender<usize>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            history: Arc::default(),
            length: watch::Sender::new(0),
        }
    }
}

impl Hub {
    /// Appends an event.
    pub(super) fn tell(&self, event: Event) {
        tracing::info!(?event);
        let elapsed_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut history = self.history.lock().expect("no holder of this lock panics");
        history.push(TimedEvent { elapsed_us, event });
        self.length.send_replace(history.len());
    }

    /// A reader from the first event on.
    pub(super) fn listen(&self) -> Listener {
        Listener {
            hub: self.clone(),
            length: self.length.subscribe(),
            next: 0,
        }
    }
}

/// One reader's place in the history.
pub(super) struct Listener {
    hub: Hub,
    length: watch::Receiver<usize>,
    next: usize,
}

impl Listener {
    /// The next event; waits for it. May be cancelled.
    pub(super) async fn next(&mut self) -> TimedEvent {
        loop {
            let found = {
                let history = self
                    .hub
                    .history
                    .lock()
                    .expect("no holder of this lock panics");
                history.get(self.next).cloned()
            };
            if let Some(event) = found {
                self.next += 1;
                return event;
            }
            // The sender lives in our own copy of the hub, so it cannot be gone.
            let next = self.next;
            drop(self.length.wait_for(|length| *length > next).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn late_listeners_hear_everything_in_order() {
        let hub = Hub::default();
        hub.tell(Event::Preparing);
        let mut late = hub.listen();
        assert_eq!(late.next().await.event, Event::Preparing);
        let waiting = tokio::spawn(async move { late.next().await.event });
        tokio::task::yield_now().await;
        hub.tell(Event::Settled);
        assert_eq!(waiting.await.unwrap(), Event::Settled);
    }
}
