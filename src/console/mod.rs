//! The serial console of a sandbox: what it printed, and typing at it.
//!
//! The guest writes what the console prints, and the guest is hostile: it is read in bounded
//! amounts and shown without control sequences.

mod error;
mod follow;
mod open;
mod tail;

pub use error::ConsoleError;
pub use follow::follow as follow_log;
pub use open::Console;
pub use tail::last_lines;
