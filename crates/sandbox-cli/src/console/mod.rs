//! The serial console: a terminal attached to it.

mod attach;
mod error;

pub(crate) use attach::Console;
pub(crate) use error::ConsoleError;
