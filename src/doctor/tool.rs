//! The host's programs besides QEMU, and their packages.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::Context;
use sandbox_host::distribution::Distribution;
use sandbox_qemu::program::on_search_path;

/// Directories of administration programs, which may be missing from a user's `PATH`.
const ADMINISTRATORS_DIRECTORIES: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// A program of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Mmdebstrap,
    MakeExt4,
    QemuImg,
    NewUidMap,
    Ssh,
    Socat,
}

impl Tool {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Mmdebstrap => "mmdebstrap",
            Self::MakeExt4 => "mkfs.ext4",
            Self::QemuImg => "qemu-img",
            Self::NewUidMap => "newuidmap",
            Self::Ssh => "ssh",
            Self::Socat => "socat",
        }
    }

    fn package(self, distribution: Distribution) -> &'static str {
        use Distribution::{Alpine, Debian, Fedora, Suse};
        match (self, distribution) {
            (Self::Mmdebstrap, _) => "mmdebstrap",
            (Self::MakeExt4, _) => "e2fsprogs",
            (Self::QemuImg, Debian) => "qemu-utils",
            (Self::QemuImg, Suse) => "qemu-tools",
            (Self::QemuImg, _) => "qemu-img",
            (Self::NewUidMap, Debian) => "uidmap",
            (Self::NewUidMap, Fedora) => "shadow-utils",
            (Self::NewUidMap, Alpine) => "shadow-uidmap",
            (Self::NewUidMap, _) => "shadow",
            (Self::Ssh, Debian) => "openssh-client",
            (Self::Ssh, Fedora | Suse) => "openssh-clients",
            (Self::Ssh, _) => "openssh",
            (Self::Socat, _) => "socat",
        }
    }

    pub(super) fn find(self, context: &Context) -> Option<PathBuf> {
        let mut search_path = context.search_path.clone().unwrap_or_default();
        search_path.push(OsString::from(":"));
        search_path.push(ADMINISTRATORS_DIRECTORIES);
        on_search_path(OsStr::new(self.program()), Some(&search_path))
    }
}

/// Returns the instruction to install `packages`.
pub(super) fn install_fix(distribution: Distribution, packages: &str) -> String {
    match distribution.install_command(packages) {
        Some(command) => format!("install: `{command}`"),
        None => format!("install: {packages}"),
    }
}

/// Returns the instruction to install the packages of `tools`.
pub(super) fn install_tools_fix(distribution: Distribution, tools: &[Tool]) -> String {
    let packages: Vec<_> = tools
        .iter()
        .map(|tool| tool.package(distribution))
        .collect();
    install_fix(distribution, &packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn install_instruction_uses_the_distributions_names() {
        let tools = [Tool::QemuImg, Tool::NewUidMap];
        let cases = [
            (
                Distribution::Debian,
                "install: `sudo apt-get install qemu-utils uidmap`",
            ),
            (
                Distribution::Fedora,
                "install: `sudo dnf install qemu-img shadow-utils`",
            ),
            (Distribution::Other, "install: qemu-img shadow"),
        ];
        for (distribution, expected) in cases {
            assert_eq!(install_tools_fix(distribution, &tools), expected);
        }
    }
}
