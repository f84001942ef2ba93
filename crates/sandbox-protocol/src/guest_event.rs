//! The events of a guest on its event port, as lines of JSON. The sender is untrusted, so their
//! length is bounded and unknown lines are ignored.

use serde::Deserialize;

/// The maximum length of a line, in bytes. The reader drops a longer line.
pub const LINE_LIMIT: usize = 4096;

/// One event of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GuestEvent {
    /// The kernel has started the initrd's init.
    Init,
    /// The root file system is mounted, and init starts systemd.
    SwitchRoot,
    /// The guest waits for a slow task before it is ready.
    Waiting {
        /// The task, in a few words.
        #[serde(rename = "for")]
        reason: String,
    },
    /// SSH answers and all shares are mounted.
    Ready,
    /// The rest of the distribution has also started.
    Settled,
    /// The guest has removed its identity on request and can be saved.
    Quiesced,
    /// The guest cannot become ready.
    Failed {
        /// The guest's error.
        reason: String,
    },
}

/// Splits a stream of bytes into events.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    overlong: bool,
}

impl EventReader {
    /// Adds bytes and returns the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<GuestEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                if !self.overlong {
                    events.extend(parse(&self.line));
                }
                self.line.clear();
                self.overlong = false;
            } else if self.line.len() < LINE_LIMIT {
                self.line.push(byte);
            } else {
                self.overlong = true;
            }
        }
        events
    }
}

/// Parses a line. The user sees the guest's text, so control characters are removed and at most 500
/// characters remain.
fn parse(line: &[u8]) -> Option<GuestEvent> {
    let mut event = serde_json::from_slice(line).ok()?;
    if let GuestEvent::Waiting { reason } | GuestEvent::Failed { reason } = &mut event {
        *reason = reason
            .chars()
            .filter(|character| !character.is_control())
            .take(500)
            .collect();
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_reader_finds_events_in_chunks_of_any_size() {
        let stream = b"{\"event\":\"init\"}\n{\"event\":\"waiting\",\"for\":\"cloud-init\"}\nnoise\n{\"event\":\"new\"}\n{\"event\":\"ready\"}\n";
        for size in 1..stream.len() {
            let mut reader = EventReader::default();
            let events: Vec<_> = stream
                .chunks(size)
                .flat_map(|chunk| reader.feed(chunk))
                .collect();
            assert_eq!(
                events,
                [
                    GuestEvent::Init,
                    GuestEvent::Waiting {
                        reason: "cloud-init".into()
                    },
                    GuestEvent::Ready
                ]
            );
        }
    }

    #[test]
    fn event_reader_drops_long_lines_and_control_characters() {
        let mut reader = EventReader::default();
        for _ in 0..100 {
            assert!(reader.feed(&[b'x'; 10_000]).is_empty());
        }
        assert!(reader.line.len() <= LINE_LIMIT);
        assert!(reader.feed(b"\n").is_empty());
        let events = reader.feed(b"{\"event\":\"failed\",\"reason\":\"\\u001b[31mred\\n\"}\n");
        assert_eq!(
            events,
            [GuestEvent::Failed {
                reason: "[31mred".into()
            }]
        );
    }
}
