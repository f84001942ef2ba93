//! The serial console of a sandbox: its log and its input.
//!
//! The guest writes the log and is untrusted. So the library reads the log in bounded amounts and
//! removes control sequences.

mod error;
mod follow;
mod open;
mod tail;

pub use error::ConsoleError;
pub use follow::follow as follow_log;
pub use open::Console;
pub use tail::last_lines;
pub(crate) use tail::lines_from;
