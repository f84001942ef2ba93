//! Sends events to the host on a virtio-serial port. An event is one line with
//! a JSON object, at most [`MAX_LINE`] bytes (`docs/guest-contract.md`,
//! "Events").

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use crate::virtio_port;

/// The name of the port (`virtserialport,name=`).
const PORT_NAME: &str = "org.sandbox.guest.0";

/// The longest line in bytes, with its newline. The host buffers no more.
const MAX_LINE: usize = 4096;

/// How long to retry an event. The port may not yet exist, another process of
/// this program may hold it open, or the host may not have connected. If the
/// host never listens, each event of a start costs this time.
const PORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause between two attempts.
const PORT_RETRY: Duration = Duration::from_millis(5);

/// A step of the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// The initrd's init runs.
    Init,
    /// The root file system is ready. Init executes systemd next.
    SwitchRoot,
    /// A slow step delays readiness.
    Waiting {
        /// The name of the step, for example `cloud-init`.
        what: &'a str,
    },
    /// Every share is mounted, commands can run, systemd listens for SSH, and
    /// cloud-init has ended if the seed asked for it.
    Ready {
        /// The final status of cloud-init (`done`, `error`, …), if it ran.
        cloud_init: Option<&'a str>,
    },
    /// The sandbox will not become ready.
    Failed {
        /// The reason, for the user.
        reason: &'a str,
    },
    /// All of Debian has started.
    Settled,
    /// The host may save the guest: nothing identifies this boot, and the agent
    /// waits for a conversation.
    Quiesced,
}

impl Event<'_> {
    /// Encodes the event as a line with its newline.
    pub(crate) fn to_line(&self) -> String {
        let (name, detail) = match self {
            Self::Init => ("init", None),
            Self::SwitchRoot => ("switch-root", None),
            Self::Waiting { what } => ("waiting", Some(("for", *what))),
            Self::Ready { cloud_init } => ("ready", cloud_init.map(|state| ("cloud-init", state))),
            Self::Failed { reason } => ("failed", Some(("reason", *reason))),
            Self::Settled => ("settled", None),
            Self::Quiesced => ("quiesced", None),
        };
        let mut line = format!("{{\"event\":\"{name}\"");
        if let Some((key, value)) = detail {
            let _ = write!(line, ",\"{key}\":\"");
            // Room for the closing quote, brace and newline.
            escape_into(&mut line, value, MAX_LINE - 3);
            line.push('"');
        }
        line.push_str("}\n");
        line
    }
}

/// Appends `value`, escaped as in a JSON string (RFC 8259, section 7). Stops
/// before `line` is longer than `limit` bytes.
fn escape_into(line: &mut String, value: &str, limit: usize) {
    for character in value.chars() {
        let mut escaped = String::new();
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '\n' => escaped.push_str("\\n"),
            control if control.is_control() && control.is_ascii() => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(control));
            }
            plain => escaped.push(plain),
        }
        if line.len() + escaped.len() > limit {
            break;
        }
        line.push_str(&escaped);
    }
}

/// Sends one event. Drops it if the host does not listen: the guest may have
/// been started by hand.
pub(crate) fn send(event: &Event<'_>) {
    let line = event.to_line();
    let deadline = Instant::now() + PORT_TIMEOUT;
    while try_send(line.as_bytes()).is_err() && Instant::now() < deadline {
        thread::sleep(PORT_RETRY);
    }
}

/// Tries once to open the port and to write the line. The kernel takes a line
/// of this length as a whole or not at all.
fn try_send(line: &[u8]) -> io::Result<()> {
    let mut port = open_port()?;
    port.write_all(line)
}

fn open_port() -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(virtio_port::find(PORT_NAME)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_line_encodes_every_event() {
        for (event, line) in [
            (Event::Init, r#"{"event":"init"}"#),
            (Event::SwitchRoot, r#"{"event":"switch-root"}"#),
            (
                Event::Waiting { what: "cloud-init" },
                r#"{"event":"waiting","for":"cloud-init"}"#,
            ),
            (Event::Ready { cloud_init: None }, r#"{"event":"ready"}"#),
            (
                Event::Ready {
                    cloud_init: Some("done"),
                },
                r#"{"event":"ready","cloud-init":"done"}"#,
            ),
            (
                Event::Failed {
                    reason: "no `/dev/vda`: \"x\"\n\\\u{1}ä",
                },
                "{\"event\":\"failed\",\"reason\":\"no `/dev/vda`: \\\"x\\\"\\n\\\\\\u0001ä\"}",
            ),
            (Event::Settled, r#"{"event":"settled"}"#),
            (Event::Quiesced, r#"{"event":"quiesced"}"#),
        ] {
            assert_eq!(event.to_line(), format!("{line}\n"));
        }
    }

    #[test]
    fn to_line_truncates_a_long_reason_between_characters() {
        let reason = "ä\n".repeat(MAX_LINE);
        let line = Event::Failed { reason: &reason }.to_line();
        assert!(line.len() <= MAX_LINE);
        assert!(line.len() > MAX_LINE - 4);
        assert!(line.ends_with("\"}\n"));
    }
}
