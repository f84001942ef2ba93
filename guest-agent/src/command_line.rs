//! What init reads from the kernel command line (`/proc/cmdline`).

use std::path::PathBuf;

/// The parameters that concern init; all others are left to the kernel and
/// to systemd.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `root=`: the block device that holds the root file system.
    pub(crate) root: PathBuf,
    /// `sandbox.fw_cfg`: some credentials travel in QEMU's fw_cfg device,
    /// whose driver costs time and is loaded only then.
    pub(crate) fw_cfg: bool,
}

impl CommandLine {
    /// Takes the parameters apart; the last of several `root=` counts, as it
    /// does for the kernel.
    pub(crate) fn parse(text: &str) -> Self {
        let mut command_line = Self {
            root: PathBuf::from("/dev/vda"),
            fw_cfg: false,
        };
        for word in text.split_ascii_whitespace() {
            if let Some(root) = word.strip_prefix("root=") {
                command_line.root = PathBuf::from(root);
            } else if word == "sandbox.fw_cfg" {
                command_line.fw_cfg = true;
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
        for (text, root, fw_cfg) in [
            ("", "/dev/vda", false),
            ("quiet root=/dev/vdb1 ro\n", "/dev/vdb1", false),
            ("root=/dev/a sandbox.fw_cfg root=/dev/b", "/dev/b", true),
            ("sandbox.fw_cfg_not rootfstype=xfs", "/dev/vda", false),
        ] {
            let expected = CommandLine {
                root: root.into(),
                fw_cfg,
            };
            assert_eq!(CommandLine::parse(text), expected, "{text}");
        }
    }
}
