//! What a guest tells on its event port: lines of JSON from a hostile sender,
//! so their length is bounded and anything unknown is passed over.

use serde::Deserialize;

/// The longest line that is read; a longer one is dropped.
pub const LINE_LIMIT: usize = 4096;

/// One event of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum GuestEvent {
    /// The initrd's init runs: the kernel is up.
    Init,
    /// The root file system is mounted and systemd takes over.
    SwitchRoot,
    /// Readiness waits for something that takes its time.
    Waiting {
        /// What is waited for, in a few words.
        #[serde(rename = "for")]
        reason: String,
    },
    /// SSH answers and every share is mounted.
    Ready,
    /// Everything else of the distribution has started, too.
    Settled,
    /// The guest was asked to forget who it is, has done so, and may be saved.
    Quiesced,
    /// The guest cannot become ready.
    Failed {
        /// Why, in the guest's words.
        reason: String,
    },
}

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    overlong: bool,
}

impl EventReader {
    /// Takes bytes as they come and returns the events that they complete.
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

/// Text of the guest's is shown to the user, so it is cleaned and shortened
/// here, once.
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
    fn events_are_found_in_any_cut_of_the_stream() {
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
    fn hostile_lines_cost_no_memory_and_reach_no_terminal() {
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
