//! The features of a QEMU build. Distributions and users leave some out.

use std::io;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use super::ANSWER_LIMIT;
use sandbox_host::bounded_command::run_bounded;

/// Optional features of a build that a sandbox needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Features {
    /// `-netdev stream` (QEMU 7.2 and later).
    pub stream_network: bool,
    /// 9p shares (built with VirtFS).
    pub shared_directories: bool,
    /// `-sandbox on` (built with libseccomp).
    pub seccomp: bool,
}

impl Features {
    /// Returns the absent features, in words that a user can search for.
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

/// Runs the program three times, for about 20 ms each, to find its features.
///
/// # Errors
///
/// If the program cannot be run, or does not answer in time.
pub fn probe_features(program: &Path) -> io::Result<Features> {
    let ask = |arguments: &[&str]| run_bounded(Command::new(program).args(arguments), ANSWER_LIMIT);
    Ok(Features {
        stream_network: lists(&ask(&["-netdev", "help"])?.text, "stream"),
        // The status is 0 even for a device that does not exist.
        shared_directories: lists(
            &ask(&["-device", "virtio-9p-pci,help"])?.text,
            "virtio-9p-pci options:",
        ),
        // Without libseccomp, QEMU rejects the option before it looks at any other.
        seccomp: ask(&["-sandbox", "on", "-machine", "help"])?
            .status
            .success(),
    })
}

/// Returns whether a line of the list is exactly `item`.
fn lists(answer: &str, item: &str) -> bool {
    answer.lines().any(|line| line.trim() == item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_compares_whole_lines() {
        let answer = "Available netdev backend types:\nsocket\nvhost-user\n";
        assert!(lists(answer, "vhost-user"));
        assert!(!lists(answer, "user"));
    }

    #[test]
    fn missing_names_the_absent_features() {
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
