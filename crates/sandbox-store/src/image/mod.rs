//! Base images: their recipes, their builds and their store.
//!
//! An image consists of a root disk, a kernel and the kernel modules of its initrd.
//! [`ImageStore`] keeps these files by digest, and [`Metadata`] records each image under its name.
//! [`build::build`] builds an image from a [`Recipe`] that is embedded into this program.
//! [`initrd::compose`] makes the initrd of a start. This module runs programs of the host
//! (mmdebstrap, e2fsprogs, qemu-img). The start of a sandbox and the `image` commands use it.

pub mod build;
mod decompress;
mod embedded;
mod error;
mod files;
mod fingerprint;
pub mod initrd;
pub mod kernel;
mod metadata;
mod modules;
mod recipe;
mod store;
mod usage;

pub use embedded::{GUEST_AGENT_SHA256, guest_agent};
pub use error::{Damage, ImageError};
pub use metadata::{
    CONTRACT_VERSION, DiskFile, ImageContent, ImageFiles, KernelFile, KernelFormat,
    METADATA_VERSION, Metadata, StoredFile,
};
pub use modules::UnknownModule;
pub use recipe::{Recipe, RecipeError};
pub use store::{Image, ImageStore, StoreEntry};
pub use usage::{Garbage, StoreUsage};
