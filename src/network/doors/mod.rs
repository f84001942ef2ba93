//! The doors by which the guest reaches hosts by name.

pub mod client_hello;
mod limits;
