//! What happens to a sandbox, as its supervisor tells it: JSON lines to every
//! command that listens.

use sandbox_host::hint::Hint;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use sandbox_spec::Accelerator;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The supervisor makes overlay, seed and keys.
    Preparing,
    /// QEMU runs and the guest's kernel is about to.
    Booting {
        /// How its processors run.
        accelerator: Accelerator,
    },
    /// QEMU runs and the saved guest is about to go on in it.
    Restoring,
    /// The guest's kernel is up: its init runs.
    KernelUp,
    /// The guest's systemd takes over.
    SystemdStarting,
    /// Readiness waits for something that takes its time.
    Waiting {
        /// What for, in a few words.
        reason: String,
    },
    /// The alias for OpenSSH is written where `~/.ssh/config` does not look.
    AliasNotIncluded,
    /// Sessions can enter.
    Ready {
        /// The host's port that leads to the guest's sshd.
        ssh_port: u16,
        /// The version of the guest agent's protocol, if the agent answers.
        agent: Option<u32>,
    },
    /// Everything else of the distribution has started, too.
    Settled,
    /// Something that the user should know and that ends nothing.
    Warning {
        /// What.
        message: String,
    },
    /// The guest is told to power down.
    Stopping,
    /// The start failed, or the sandbox broke.
    Failed(Failure),
    /// The last event: nothing of the sandbox is left.
    Ended {
        /// Why it ended.
        reason: EndReason,
    },
}

/// Why a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EndReason {
    /// It was told to.
    Stopped,
    /// The guest powered itself off, or rebooted.
    GuestPoweredOff,
    /// The command that it was started for is gone.
    Abandoned,
    /// A [`Failure`] came before.
    Failed,
}

/// A failure with all that helps to understand it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed.
    pub message: String,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
    /// The last lines of the console, or of QEMU's own output.
    pub last_lines: Vec<String>,
    /// What to do.
    pub hint: Option<Hint>,
}

impl Failure {
    /// A failure from an error with its causes.
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

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedEvent {
    /// Microseconds since the supervisor started.
    pub elapsed_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl TimedEvent {
    /// Time since the supervisor started.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_their_line() {
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
    fn a_supervisor_that_knows_no_agent_is_understood() {
        let line = r#"{"elapsed_us":7,"event":"ready","ssh_port":4022}"#;
        let event = serde_json::from_str::<TimedEvent>(line).unwrap().event;
        let expected = Event::Ready {
            ssh_port: 4022,
            agent: None,
        };
        assert_eq!(event, expected);
    }
}
