//! What the host's operating system offers: private files, terminals, standard streams, signals.
//! May use the standard library and crates only; every other room uses it.

pub mod files;
pub mod notices;
pub mod printable;
pub mod streams;
pub mod terminal;
