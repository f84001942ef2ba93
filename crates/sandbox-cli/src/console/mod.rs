//! The terminal of `sandbox console`.

mod attach;
mod error;

pub(crate) use attach::Console;
pub(crate) use error::AttachError;
