//! The serial console of a sandbox: attaching a terminal to it, and showing what it said.
//!
//! May use `host` and crates. Used by `commands` (`console`, `logs`) and by `sandbox`, which shows
//! the last lines with an error. What the console said is written by the guest and hostile: it is
//! read in bounded amounts and shown without control sequences, except on a terminal that the user
//! attached to it on purpose.

mod attach;
mod error;
mod follow;
mod tail;

pub use attach::{Console, Left};
pub use error::ConsoleError;
pub use follow::follow;
pub use sandbox_host::printable::sanitize;
pub use tail::last_lines;
