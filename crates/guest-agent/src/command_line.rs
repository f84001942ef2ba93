//! The parameters of init on the kernel command line (`/proc/cmdline`; kernel
//! documentation, `admin-guide/kernel-parameters.txt`).

use std::path::PathBuf;

/// The parameters that init reads. The kernel and systemd read the others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `root=`: the block device of the root file system.
    pub(crate) root: PathBuf,
}

impl CommandLine {
    /// Parses the command line. Like the kernel, it uses the last of several
    /// `root=`.
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
    fn parse_uses_the_last_root_or_the_default() {
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
