//! What init reads from the kernel command line (`/proc/cmdline`).

use std::path::PathBuf;

/// The parameters that concern init; all others are left to the kernel and
/// to systemd.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `root=`: the block device that holds the root file system.
    pub(crate) root: PathBuf,
}

impl CommandLine {
    /// Takes the parameters apart; the last of several `root=` counts, as it
    /// does for the kernel.
    pub(crate) fn parse(text: &str) -> Self {
        let mut command_line = Self {
            root: PathBuf::from("/dev/vda"),
        };
        for word in text.split_ascii_whitespace() {
            if let Some(root) = word.strip_prefix("root=") {
                command_line.root = PathBuf::from(root);
            }
        }
        command_line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        for (text, root) in [
            ("", "/dev/vda"),
            ("quiet root=/dev/vdb1 ro\n", "/dev/vdb1"),
            ("root=/dev/a rootfstype=xfs root=/dev/b", "/dev/b"),
        ] {
            let expected = CommandLine { root: root.into() };
            assert_eq!(CommandLine::parse(text), expected, "{text}");
        }
    }
}
