//! What a guest is told at boot: the seed and the credentials that carry it.
//!
//! Values and text only; nothing here touches the system. Used by
//! [`crate::sandbox`], which writes the seed's files, and kept in step with
//! `guest-agent/`, which reads them (docs/guest-contract.md).

pub(crate) mod cloud_config;
pub(crate) mod credential;
pub(crate) mod egress;
pub(crate) mod mount_unit;
pub(crate) mod seed;
