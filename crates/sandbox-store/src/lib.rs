//! The data that stays on the disk between starts: base images ([`image`]) and saved guests
//! ([`template`]). This crate builds images, keeps both kinds by digest, checks them and collects
//! garbage.
//!
//! It handles files and the programs that make them, and does not know running sandboxes. It uses
//! `sandbox-host` and `sandbox-spec`. The library `sandbox` uses it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod image;
pub mod template;
