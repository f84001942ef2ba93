//! The formats between processes, with their versions.
//!
//! | Module | Between | Version |
//! |---|---|---|
//! | [`agent`] | host and guest agent | [`agent::VERSION`], both sides refuse any other |
//! | [`control`], [`event`], [`gateway`] | a command and a supervisor | [`control::VERSION`] |
//! | [`guest_event`] | the guest and its supervisor | the guest agent's |
//! | [`record`] | a supervisor and every later command | [`record::VERSION`] |
//!
//! The guest agent uses [`agent`] only. The feature `host` adds the rest. `docs/compatibility.md`
//! describes the behaviour of a newer and an older program.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
#[cfg(feature = "host")]
pub mod control;
#[cfg(feature = "host")]
pub mod event;
#[cfg(feature = "host")]
pub mod gateway;
#[cfg(feature = "host")]
pub mod guest_event;
#[cfg(feature = "host")]
mod network_summary;
#[cfg(feature = "host")]
pub mod record;

#[cfg(feature = "host")]
pub use event::{EndReason, Event, Failure, TimedEvent};
#[cfg(feature = "host")]
pub use network_summary::NetworkSummary;
#[cfg(feature = "host")]
pub use record::{Record, RecordError};
