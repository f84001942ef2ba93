//! The host's Linux distribution, for package names in hints.

use std::fs;

/// A family of distributions with one package manager and the same package names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Debian, Ubuntu and their derivatives.
    Debian,
    /// Fedora, Red Hat Enterprise Linux and their derivatives.
    Fedora,
    /// Arch Linux and its derivatives.
    Arch,
    /// openSUSE and SUSE Linux Enterprise.
    Suse,
    /// Alpine Linux.
    Alpine,
    /// Any other distribution.
    Other,
}

/// The paths of os-release(5); the administrator's file comes first.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

impl Distribution {
    /// Returns the distribution of the host.
    pub fn of_this_machine() -> Self {
        OS_RELEASE
            .iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .map_or(Self::Other, |text| Self::parse(&text))
    }

    /// Parses the content of os-release(5): `ID`, then the words of `ID_LIKE`.
    pub fn parse(os_release: &str) -> Self {
        let field = |name: &str| {
            os_release
                .lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| *key == name)
                .map_or("", |(_, value)| value.trim_matches(['"', '\'']))
        };
        std::iter::once(field("ID"))
            .chain(field("ID_LIKE").split(' '))
            .map(Self::of_identifier)
            .find(|distribution| *distribution != Self::Other)
            .unwrap_or(Self::Other)
    }

    fn of_identifier(identifier: &str) -> Self {
        match identifier {
            "debian" | "ubuntu" => Self::Debian,
            "fedora" | "rhel" | "centos" => Self::Fedora,
            "arch" => Self::Arch,
            "suse" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => Self::Suse,
            "alpine" => Self::Alpine,
            _ => Self::Other,
        }
    }

    /// Returns the command that installs `packages`; `None` if the package manager is unknown.
    pub fn install_command(self, packages: &str) -> Option<String> {
        let installer = match self {
            Self::Debian => "apt-get install",
            Self::Fedora => "dnf install",
            Self::Arch => "pacman -S",
            Self::Suse => "zypper install",
            Self::Alpine => "apk add",
            Self::Other => return None,
        };
        Some(format!("sudo {installer} {packages}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_is_parsed_from_identifier_or_family() {
        let cases = [
            ("ID=debian\nVERSION_ID=\"12\"\n", Distribution::Debian),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                Distribution::Debian,
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Distribution::Fedora,
            ),
            ("ID='opensuse-leap'\n", Distribution::Suse),
            ("NAME=Arch\nID=arch\n", Distribution::Arch),
            ("ID=nixos\n", Distribution::Other),
            ("", Distribution::Other),
        ];
        for (os_release, expected) in cases {
            assert_eq!(Distribution::parse(os_release), expected, "{os_release}");
        }
    }

    #[test]
    fn install_command_uses_the_package_manager() {
        assert_eq!(
            Distribution::Debian.install_command("socat").as_deref(),
            Some("sudo apt-get install socat")
        );
        assert_eq!(Distribution::Other.install_command("socat"), None);
    }
}
