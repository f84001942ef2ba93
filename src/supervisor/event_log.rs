//! The event log of one sandbox. Each subscriber reads all events, from the first one on.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::watch;

use sandbox_protocol::{Event, TimedEvent};

/// An append-only list of events.
///
/// A start has some ten events, and warnings are few, so the log keeps all of them.
#[derive(Clone)]
pub(super) struct EventLog {
    started: Instant,
    history: Arc<Mutex<Vec<TimedEvent>>>,
    length: watch::Sender<usize>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            history: Arc::default(),
            length: watch::Sender::new(0),
        }
    }
}

impl EventLog {
    /// Appends an event.
    pub(super) fn append(&self, event: Event) {
        tracing::info!(?event, "reported an event");
        let elapsed_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut history = self.history.lock().expect("no holder of this lock panics");
        history.push(TimedEvent { elapsed_us, event });
        self.length.send_replace(history.len());
    }

    /// Returns a subscription that starts with the first event.
    pub(super) fn subscribe(&self) -> Subscription {
        Subscription {
            event_log: self.clone(),
            length: self.length.subscribe(),
            next: 0,
        }
    }
}

/// A reader's position in the log.
pub(super) struct Subscription {
    event_log: EventLog,
    length: watch::Receiver<usize>,
    next: usize,
}

impl Subscription {
    /// Waits for the next event and returns it. Safe to cancel.
    pub(super) async fn next(&mut self) -> TimedEvent {
        loop {
            let found = {
                let history = self
                    .event_log
                    .history
                    .lock()
                    .expect("no holder of this lock panics");
                history.get(self.next).cloned()
            };
            if let Some(event) = found {
                self.next += 1;
                return event;
            }
            // `self.event_log` owns a sender, so the channel is open.
            let next = self.next;
            drop(self.length.wait_for(|length| *length > next).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn subscription_reads_past_and_future_events_in_order() {
        let event_log = EventLog::default();
        event_log.append(Event::Preparing);
        let mut late = event_log.subscribe();
        assert_eq!(late.next().await.event, Event::Preparing);
        let waiting = tokio::spawn(async move { late.next().await.event });
        tokio::task::yield_now().await;
        event_log.append(Event::Settled);
        assert_eq!(waiting.await.unwrap(), Event::Settled);
    }
}
