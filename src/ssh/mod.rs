//! What lets SSH into a running sandbox: its keys, where its sshd is, and the alias file for the
//! user's own `ssh`. Connections are the business of whoever makes them.

pub(crate) mod alias;
mod error;
mod include;
pub(crate) mod keys;
mod openssh;

pub use error::KeyError;
pub use openssh::Endpoint;
