//! The requirements of a build on the host.

use std::path::PathBuf;
use std::{env, fs};

use nix::unistd::{Uid, User};

use super::error::BuildError;

/// Directories to search after `PATH`, which often lacks them for users.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/sbin"];
/// The number of subordinate ids that mmdebstrap maps.
const SUBORDINATE_IDS: u64 = 65536;
/// The files of the archive's keys in Debian's and Ubuntu's packages.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// The privilege of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privilege {
    /// The build runs as root, in its own mount and process namespaces.
    Root,
    /// The build runs as a user, who is root of a user namespace with subordinate ids.
    UserNamespace,
}

/// The programs of a build and its privilege.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) privilege: Privilege,
    pub(super) mmdebstrap: PathBuf,
    pub(super) unshare: PathBuf,
    pub(super) mkfs: PathBuf,
    pub(super) debugfs: PathBuf,
    pub(super) qemu_img: PathBuf,
    /// The keys of Debian's archive.
    pub(super) keyring: PathBuf,
}

impl Tools {
    /// Finds all programs, and checks the requirements of a user namespace.
    pub(super) fn find() -> Result<Self, BuildError> {
        let privilege = if Uid::effective().is_root() {
            Privilege::Root
        } else {
            Privilege::UserNamespace
        };
        let tools = Self {
            privilege,
            mmdebstrap: program("mmdebstrap", "mmdebstrap")?,
            unshare: program("unshare", "util-linux")?,
            mkfs: program("mkfs.ext4", "e2fsprogs")?,
            debugfs: program("debugfs", "e2fsprogs")?,
            qemu_img: program("qemu-img", "qemu-utils")?,
            keyring: KEYRINGS
                .map(PathBuf::from)
                .into_iter()
                .find(|path| path.exists())
                .ok_or(BuildError::MissingKeyring)?,
        };
        if privilege == Privilege::UserNamespace {
            program("newuidmap", "uidmap")?;
            check_user_namespaces()?;
            check_subordinate_ids()?;
        }
        Ok(tools)
    }
}

/// Returns `PATH` with the system's directories appended.
pub(super) fn search_path() -> std::ffi::OsString {
    let given = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&given).chain(SYSTEM_DIRECTORIES.map(PathBuf::from));
    // Only a directory with a colon cannot be joined, and split_paths returns none.
    env::join_paths(directories).unwrap_or(given)
}

fn program(program: &'static str, package: &'static str) -> Result<PathBuf, BuildError> {
    use std::os::unix::fs::PermissionsExt as _;
    env::split_paths(&search_path())
        .map(|directory| directory.join(program))
        .find(|path| {
            fs::metadata(path)
                .is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
        })
        .ok_or(BuildError::MissingProgram { program, package })
}

/// Checks the two settings that forbid user namespaces, where they exist.
fn check_user_namespaces() -> Result<(), BuildError> {
    for (path, setting) in [
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/user/max_user_namespaces",
            "user.max_user_namespaces=10000",
        ),
    ] {
        if fs::read_to_string(path).is_ok_and(|value| value.trim() == "0") {
            return Err(BuildError::NoUserNamespaces { setting });
        }
    }
    Ok(())
}

fn check_subordinate_ids() -> Result<(), BuildError> {
    let uid = Uid::effective();
    let user = User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    for path in ["/etc/subuid", "/etc/subgid"] {
        let table = fs::read_to_string(path).unwrap_or_default();
        if !has_subordinate_ids(&table, &user, uid.as_raw()) {
            return Err(BuildError::NoSubordinateIds {
                user,
                path: path.into(),
            });
        }
    }
    Ok(())
}

/// Returns whether a line `USER:FIRST:COUNT` of subuid(5) gives the user enough ids.
fn has_subordinate_ids(table: &str, user: &str, uid: u32) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split(':');
        let owner = fields.next();
        let count = fields.nth(1).and_then(|count| count.trim().parse().ok());
        (owner == Some(user) || owner == Some(&uid.to_string()))
            && count.is_some_and(|count: u64| count >= SUBORDINATE_IDS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_match_name_or_number() {
        let table = "root:100000:65536\nme:165536:65536\n1001:231072:65536\nfew:300000:1000\n";
        for (user, uid, expected) in [
            ("me", 7, true),
            ("other", 1001, true),
            ("few", 8, false),
            ("m", 9, false),
            ("", 10, false),
        ] {
            assert_eq!(has_subordinate_ids(table, user, uid), expected, "{user}");
        }
    }

    #[test]
    fn missing_program_names_its_package() {
        let error = program("no-such-program", "some-package").unwrap_err();
        assert!(error.to_string().contains("`no-such-program`"));
        assert!(
            error
                .hint()
                .unwrap()
                .to_string()
                .contains("apt-get install some-package")
        );
    }
}
