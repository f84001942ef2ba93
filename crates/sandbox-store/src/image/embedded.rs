//! Files that `build.rs` embeds into the program: the recipes' files and the guest agent.

/// An embedded file of the repository.
#[derive(Debug)]
pub(super) struct EmbeddedFile {
    /// Path in the repository.
    pub(super) path: &'static str,
    /// Whether it has an execute bit.
    pub(super) executable: bool,
    /// Its content.
    pub(super) contents: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/embedded_files.rs"));

static GUEST_AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-agent"));

/// Returns the guest agent: a static ELF program, `/init` of the initrd.
pub fn guest_agent() -> &'static [u8] {
    GUEST_AGENT
}

/// SHA-256 of [`guest_agent`] in hexadecimal digits.
pub const GUEST_AGENT_SHA256: &str = env!("GUEST_AGENT_SHA256");

#[cfg(test)]
mod tests {
    use sandbox_spec::Digest;

    use super::*;

    #[test]
    fn guest_agent_has_recorded_digest() {
        assert_eq!(Digest::of(guest_agent()).hex(), GUEST_AGENT_SHA256);
    }
}
