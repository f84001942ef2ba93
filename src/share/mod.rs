//! Host directories in the guest: what the user asks for, and how it is
//! offered (9p) and mounted (a systemd mount unit).
//!
//! Values and text only. Used by [`crate::sandbox`].

pub mod mount_unit;
