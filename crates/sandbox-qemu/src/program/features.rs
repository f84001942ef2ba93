//! What was built into a QEMU program: distributions and users leave parts out.

use std::io;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use super::ANSWER_LIMIT;
use sandbox_host::bounded_command::run_bounded;

/// Parts that can be left out of a build and that a sandbox needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Features {
    /// `-netdev stream` (QEMU 7.2 and later).
    pub stream_network: bool,
    /// Sharing directories over 9p (built with VirtFS).
    pub shared_directories: bool,
    /// `-sandbox on` (built with libseccomp).
    pub seccomp: bool,
}

impl Features {
    /// What is absent, each as a user would look it up.
    pub fn missing(self) -> Vec<&'static str> {
        [
            (self.stream_network, "network by a stream (QEMU 7.2)"),
            (self.shared_directories, "9p shares (VirtFS)"),
            (self.seccomp, "seccomp sandbox (libseccomp)"),
        ]
        .into_iter()
        .filter_map(|(present, name)| (!present).then_some(name))
        .collect()
    }
}

/// Asks the program, which takes three calls of about 20 ms.
///
/// # Errors
///
/// The program cannot be run, or does not answer in time.
pub fn probe_features(program: &Path) -> io::Result<Features> {
    let ask = |arguments: &[&str]| run_bounded(Command::new(program).args(arguments), ANSWER_LIMIT);
    Ok(Features {
        stream_network: lists(&ask(&["-netdev", "help"])?.text, "stream"),
        // The status is 0 even for a device that does not exist.
        shared_directories: lists(
            &ask(&["-device", "virtio-9p-pci,help"])?.text,
            "virtio-9p-pci options:",
        ),
        // Without libseccomp the option itself is refused, before any other is looked at.
        seccomp: ask(&["-sandbox", "on", "-machine", "help"])?
            .status
            .success(),
    })
}

/// Whether a line of the list is exactly `item`.
fn lists(answer: &str, item: &str) -> bool {
    answer.lines().any(|line| line.trim() == item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_whole_lines() {
        let answer = "Available netdev backend types:\nsocket\nvhost-user\n";
        assert!(lists(answer, "vhost-user"));
        assert!(!lists(answer, "user"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let features = Features {
            stream_network: false,
            shared_directories: true,
            seccomp: false,
        };
        let expected = [
            "network by a stream (QEMU 7.2)",
            "seccomp sandbox (libseccomp)",
        ];
        assert_eq!(features.missing(), expected);
    }
}
