//! The settings of a sandbox as types whose parsers validate them: names, sizes, shares, images,
//! domains, network rules, published ports, secrets.
//!
//! Values and parsers of text only. Nothing here starts, opens or resolves anything, except for the
//! file of a secret. The crate uses `sandbox-host`. Every other crate of the workspace can use it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accelerator;
pub mod address;
mod digest;
pub mod domain;
pub mod guest;
pub mod guest_network;
mod image_reference;
mod name;
pub mod policy;
pub mod publish;
pub mod resolver_address;
pub mod secret;
mod share;
mod size;
mod template_key;
mod template_policy;
mod text;

pub use accelerator::{Accelerator, AcceleratorChoice};
pub use digest::{Digest, InvalidDigest};
pub use image_reference::{ImageReference, ReferenceError};
pub use name::{NameError, SandboxName};
pub use share::{GuestPath, Share, ShareError, ShareMode};
pub use size::{
    Bandwidth, ConnectionLimit, CpuCount, DiskSize, MemorySize, SizeError, TemplateSpace,
    format_bytes,
};
pub use template_key::{InvalidKey, KeyPrefix, TemplateKey};
pub use template_policy::{TemplatePolicy, UnknownPolicy};
