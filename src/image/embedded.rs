//! What `build.rs` puts into the program: the recipes' files and the guest agent.

/// A file of the repository, embedded.
#[derive(Debug)]
pub(super) struct EmbeddedFile {
    /// Path in the repository.
    pub(super) path: &'static str,
    /// Whether it has an execute bit.
    pub(super) executable: bool,
    /// Its bytes.
    pub(super) contents: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/embedded_files.rs"));

static GUEST_AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-agent"));

/// The guest agent: a static ELF program, `/init` of the initrd.
pub fn guest_agent() -> &'static [u8] {
    GUEST_AGENT
}
