//! One command in the guest with all that is connected to it here: this process's streams, its
//! terminal, signals and what the user's patience allows, whatever carries it there.
//!
//! `ssh` carries commands where the guest agent does not answer; else the library does.

mod carried;
mod command;
mod ending;
mod error;
mod pty;
mod run;

pub use carried::{SessionFailure, execute, execute_over};
pub use command::GuestCommand;
pub use ending::{Ending, RemoteSignal};
pub use error::{SessionError, Stream};
pub use pty::PtyRequest;
pub(crate) use run::{Arrival, FromGuest, ToGuest, run};
