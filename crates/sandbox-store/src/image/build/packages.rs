//! Reads dpkg's status file (`/var/lib/dpkg/status`).

use std::collections::BTreeMap;

/// Returns names and versions of the installed packages.
pub(super) fn installed(status: &str) -> BTreeMap<String, String> {
    status
        .split("\n\n")
        .filter_map(|stanza| {
            let field = |name: &str| {
                stanza
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            (field("Status")? == "install ok installed").then_some(())?;
            Some((field("Package")?.to_owned(), field("Version")?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_ignores_removed_packages() {
        let status = "\
Package: bash
Status: install ok installed
Version: 5.2.37-2
Description: shell
 Version: not this one

Package: gone
Status: deinstall ok config-files
Version: 1

Package: libc6
Status: install ok installed
Version: 2.41-12
";
        let expected = [("bash", "5.2.37-2"), ("libc6", "2.41-12")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(installed(status), expected.into());
        assert!(installed("").is_empty());
    }
}
