//! One command in the guest with all that is connected to it locally: its streams, its terminal,
//! signals and what the user's patience allows, whatever carries it there.
//!
//! May use `host` and crates. Used by `ssh` and `agent`, which carry sessions, and by those who
//! start them.

mod command;
mod ending;
mod error;
mod pty;
mod run;

pub use command::{CommandError, EnvironmentVariable, GuestCommand};
pub use ending::{Ending, RemoteSignal};
pub use error::{SessionError, Stream};
pub use pty::PtyRequest;
pub(crate) use run::{Arrival, FromGuest, ToGuest, run};
