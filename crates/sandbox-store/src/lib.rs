//! What lies on the disk between starts: base images ([`image`]) and saved guests ([`template`]),
//! how they are built, kept by digest, checked and collected.
//!
//! Files and the programs that make them; nothing here knows what a running sandbox is. It uses
//! `sandbox-host` and `sandbox-spec`; the library `sandbox` uses it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod image;
pub mod template;
