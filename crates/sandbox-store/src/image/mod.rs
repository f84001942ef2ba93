//! Base images: where they come from, how they are made, and where they are kept.
//!
//! An image is a root disk, a kernel and the kernel modules of its initrd, stored by digest
//! ([`ImageStore`]) under a name ([`ImageReference`]) with a record of what it is
//! ([`Metadata`]). [`build::build`] makes one from a [`Recipe`] that is embedded into this
//! program; [`initrd::compose`] makes the initrd of a start. The room uses the host's programs
//! (mmdebstrap, e2fsprogs, qemu-img) and nothing of the other rooms; the start of a sandbox and
//! the `image` commands use it.

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
