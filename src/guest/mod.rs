//! The seed of a guest: its configuration, and the credentials that transport it.
//!
//! Contains values and texts only, without access to the system. [`crate::plan`] uses it, and the
//! supervisor writes the seed's files. The guest agent reads them (docs/guest-contract.md).

pub(crate) mod cloud_config;
pub(crate) mod credential;
pub(crate) mod egress;
pub(crate) mod mount_unit;
pub(crate) mod seed;

mod template;
