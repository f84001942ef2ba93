//! One command in the guest, with the streams, the terminal and the signals of this process.
//!
//! [`execute`] runs the command through the guest agent, by the library. The feature `ssh` adds
//! SSH, for guests whose agent does not answer.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::pin::Pin;

mod carried;
mod command;
mod ending;
mod error;
mod pty;
mod run;
#[cfg(feature = "ssh")]
pub mod ssh;

pub use carried::{SessionFailure, execute, execute_over};
pub use command::GuestCommand;
pub use ending::{Ending, RemoteSignal};
pub use error::{SessionError, Stream};
pub use pty::PtyRequest;
pub(crate) use run::{Arrival, FromGuest, ToGuest, run};

/// The future of a session.
///
/// The code of an async function is compiled in each crate that awaits it. This one is compiled in
/// its own crate, so an edit of a command does not compile SSH again.
pub type SessionFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
