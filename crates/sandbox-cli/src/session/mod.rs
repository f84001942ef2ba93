//! One command in the guest, with the streams, the terminal and the signals of this process.
//!
//! The room is independent of the transport. The library runs commands through the guest agent.
//! `ssh` runs them if the agent does not answer.

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
