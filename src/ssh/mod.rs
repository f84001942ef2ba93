//! SSH access to a running sandbox: its keys, its endpoint, and the alias file for the user's
//! `ssh`. Callers make the connections themselves.

pub(crate) mod alias;
mod error;
mod include;
pub(crate) mod keys;
mod openssh;

pub use error::KeyError;
pub use openssh::Endpoint;
