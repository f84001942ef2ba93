//! The events of a sandbox. The supervisor sends them as lines of JSON to each command that
//! subscribes.

use std::time::Duration;

use sandbox_host::hint::Hint;
use sandbox_spec::{Accelerator, SandboxName};
use serde::{Deserialize, Serialize};

/// An event of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The supervisor prepares overlay, seed and keys.
    Preparing,
    /// QEMU runs and boots the guest's kernel.
    Booting {
        /// The accelerator.
        accelerator: Accelerator,
    },
    /// QEMU runs and restores the saved guest.
    Restoring,
    /// The guest's kernel has started its init.
    KernelUp,
    /// The guest's init has started systemd.
    SystemdStarting,
    /// The guest waits for a slow task before it is ready.
    Waiting {
        /// The task, in a few words.
        reason: String,
    },
    /// The alias for OpenSSH is written, but `~/.ssh/config` does not include it.
    AliasNotIncluded,
    /// The guest is ready for sessions.
    Ready {
        /// The host port that forwards to the guest's sshd.
        ssh_port: u16,
        /// The protocol version of the guest agent, if the agent answers.
        agent: Option<u32>,
    },
    /// The rest of the distribution has also started.
    Settled,
    /// A problem that does not end the sandbox.
    Warning {
        /// The warning.
        message: String,
    },
    /// The supervisor powers the guest down.
    Stopping,
    /// The start or the sandbox failed.
    Failed(Failure),
    /// The last event: the sandbox has ended and its state is removed.
    Ended {
        /// The reason.
        reason: EndReason,
    },
    /// The supervisor does not carry out the request of this connection, and closes it.
    Refused {
        /// The reason.
        message: String,
    },
    /// An event of a newer program. It is only read, never written.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// Returns the next step for the user after [`Event::Refused`], with the sandbox's name if it
    /// is known.
    pub fn refusal_hint(name: Option<&SandboxName>) -> Hint {
        let stop = match name {
            Some(name) => format!("stop {name}"),
            None => "stop".into(),
        };
        Hint::text("use the version that started the sandbox, or end it with ").command(stop)
    }
}

/// Why a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EndReason {
    /// A command stopped it.
    Stopped,
    /// The guest powered off or rebooted.
    GuestPoweredOff,
    /// The command that holds an attached sandbox is gone.
    Abandoned,
    /// A [`Failure`] preceded.
    Failed,
}

/// A failure with its causes, its log and a hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The error.
    pub message: String,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
    /// The last lines of the console or of QEMU's output.
    pub last_lines: Vec<String>,
    /// The next step for the user.
    pub hint: Option<Hint>,
}

impl Failure {
    /// Creates a failure from an error with its causes.
    pub fn from_error(error: &dyn std::error::Error, hint: Option<Hint>) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source())
            .map(ToString::to_string)
            .collect();
        Self {
            message: error.to_string(),
            causes,
            last_lines: Vec::new(),
            hint,
        }
    }
}

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedEvent {
    /// Microseconds since the supervisor started.
    pub elapsed_us: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl TimedEvent {
    /// Returns the time since the supervisor started.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_of_newer_program_is_unknown() {
        let line = r#"{"elapsed_us":7,"event":"hibernating","depth":3}"#;
        let event: TimedEvent = serde_json::from_str(line).unwrap();
        assert_eq!(event.event, Event::Unknown);
        assert!(serde_json::from_str::<TimedEvent>(r#"{"elapsed_us":7}"#).is_err());
    }

    #[test]
    fn event_parses_from_its_line() {
        for event in [
            Event::Preparing,
            Event::Booting {
                accelerator: Accelerator::Tcg,
            },
            Event::Ready {
                ssh_port: 4022,
                agent: None,
            },
            Event::Ready {
                ssh_port: 4022,
                agent: Some(1),
            },
            Event::Failed(Failure {
                message: "a".into(),
                causes: vec!["b".into()],
                last_lines: vec![],
                hint: None,
            }),
            Event::Ended {
                reason: EndReason::GuestPoweredOff,
            },
        ] {
            let timed = TimedEvent {
                elapsed_us: 7,
                event,
            };
            let line = serde_json::to_string(&timed).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<TimedEvent>(&line).unwrap(), timed);
        }
    }

    #[test]
    fn failure_of_other_version_keeps_known_parts_of_its_hint() {
        let hint = |hint: &str| {
            let line = format!(
                r#"{{"elapsed_us":7,"event":"failed","message":"a","causes":[],"last_lines":[],"hint":{hint}}}"#
            );
            match serde_json::from_str::<TimedEvent>(&line).unwrap().event {
                Event::Failed(failure) => failure.hint.map(|hint| hint.to_string()),
                other => panic!("{other:?}"),
            }
        };
        // The first versions sent text.
        assert_eq!(hint(r#""run `df`""#).unwrap(), "run `df`");
        let newer = r#"[{"text":"run "},{"picture":{"size":3}},{"command":"doctor"}]"#;
        assert_eq!(hint(newer).unwrap(), "run `sandbox doctor`");
        assert_eq!(hint("null"), None);
    }

    #[test]
    fn ready_without_agent_parses() {
        let line = r#"{"elapsed_us":7,"event":"ready","ssh_port":4022}"#;
        let event = serde_json::from_str::<TimedEvent>(line).unwrap().event;
        let expected = Event::Ready {
            ssh_port: 4022,
            agent: None,
        };
        assert_eq!(event, expected);
    }
}
