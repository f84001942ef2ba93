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

/// SHA-256 of [`guest_agent`] in hexadecimal digits.
pub const GUEST_AGENT_SHA256: &str = env!("GUEST_AGENT_SHA256");

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox_spec::Digest;

    #[test]
    fn the_recorded_digest_is_that_of_the_embedded_agent() {
        assert_eq!(Digest::of(guest_agent()).hex(), GUEST_AGENT_SHA256);
    }
}
