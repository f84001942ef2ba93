//! Checks whether this host can build a base image.

use std::fs;
use std::path::Path;

use nix::unistd::{Uid, User};

use super::tool::{Tool, install_fix, install_tools_fix};
use super::{Context, Finding};

const TOOLS: &str = "image-tools";
const KEYRING: &str = "archive-keyring";
const NAMESPACES: &str = "user-namespaces";

/// The keyrings of the package `debian-archive-keyring`. Debian 13 changed the file's suffix.
const ARCHIVE_KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// The number of user ids in a Debian system (Debian Policy 9.2.2: ids below 65536).
const LEAST_SUBORDINATE_IDS: u64 = 65_536;

pub(super) fn check(context: &Context) -> Vec<Finding> {
    let mut findings = vec![check_tools(context), check_keyring(context)];
    if !Uid::effective().is_root() {
        findings.push(check_namespaces());
    }
    findings
}

fn check_tools(context: &Context) -> Finding {
    let mut needed = vec![Tool::Mmdebstrap, Tool::MakeExt4, Tool::QemuImg];
    if !Uid::effective().is_root() {
        needed.push(Tool::NewUidMap);
    }
    let names = |tools: &[Tool]| {
        let names: Vec<_> = tools.iter().map(|tool| tool.program()).collect();
        format!("`{}`", names.join("`, `"))
    };
    let missing: Vec<_> = needed
        .iter()
        .copied()
        .filter(|tool| tool.find(context).is_none())
        .collect();
    if missing.is_empty() {
        return Finding::ok(TOOLS, names(&needed));
    }
    let detail = format!("image builds need {}", names(&missing));
    let fix = install_tools_fix(context.distribution, &missing);
    Finding::failure(TOOLS, detail, Some(fix))
}

fn check_keyring(context: &Context) -> Finding {
    if let Some(path) = ARCHIVE_KEYRINGS
        .iter()
        .find(|path| Path::new(path).exists())
    {
        return Finding::ok(KEYRING, format!("`{path}`"));
    }
    let detail = format!(
        "image builds need `{}` to verify Debian's packages",
        ARCHIVE_KEYRINGS[0]
    );
    let fix = install_fix(context.distribution, "debian-archive-keyring");
    Finding::failure(KEYRING, detail, Some(fix))
}

/// Checks user namespaces, in which a user other than root builds images.
fn check_namespaces() -> Finding {
    let user = User::from_uid(Uid::effective()).ok().flatten();
    let name = user.map_or_else(String::new, |user| user.name);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    judge_namespaces(&Namespaces {
        user: &name,
        uid: Uid::effective().as_raw(),
        subordinate_users: &read("/etc/subuid"),
        subordinate_groups: &read("/etc/subgid"),
        // Only Debian's kernels have this setting.
        unprivileged_clone: &read("/proc/sys/kernel/unprivileged_userns_clone"),
        most_namespaces: &read("/proc/sys/user/max_user_namespaces"),
    })
}

/// The contents of the files that the check reads.
struct Namespaces<'a> {
    user: &'a str,
    uid: u32,
    subordinate_users: &'a str,
    subordinate_groups: &'a str,
    unprivileged_clone: &'a str,
    most_namespaces: &'a str,
}

fn judge_namespaces(namespaces: &Namespaces<'_>) -> Finding {
    for (setting, value, enough) in [
        (
            "kernel.unprivileged_userns_clone",
            namespaces.unprivileged_clone,
            1,
        ),
        (
            "user.max_user_namespaces",
            namespaces.most_namespaces,
            10_000,
        ),
    ] {
        if value.trim() == "0" {
            let detail = format!("only root can build images: `{setting}` is 0");
            let fix = format!("allow user namespaces: `sudo sysctl {setting}={enough}`");
            return Finding::failure(NAMESPACES, detail, Some(fix));
        }
    }
    let has_ids = |content| subordinate_ids(content, namespaces) >= LEAST_SUBORDINATE_IDS;
    for (file, content) in [
        ("/etc/subuid", namespaces.subordinate_users),
        ("/etc/subgid", namespaces.subordinate_groups),
    ] {
        if !has_ids(content) {
            let detail = format!(
                "only root can build images: `{file}` gives you fewer than \
                 {LEAST_SUBORDINATE_IDS} ids"
            );
            let fix = "add some: `sudo usermod --add-subuids 100000-165535 \
                       --add-subgids 100000-165535 $USER` (if no other user has these)";
            return Finding::failure(NAMESPACES, detail, Some(fix.into()));
        }
    }
    Finding::ok(NAMESPACES, "user namespaces with your own ids")
}

/// Returns the largest count in the user's lines `NAME_OR_UID:START:COUNT` (subuid(5)).
fn subordinate_ids(content: &str, namespaces: &Namespaces<'_>) -> u64 {
    let uid = namespaces.uid.to_string();
    content
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let owner = fields.next()?;
            let count = fields.nth(1)?.trim().parse().ok()?;
            (owner == namespaces.user || owner == uid).then_some(count)
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    const GOOD: Namespaces<'_> = Namespaces {
        user: "person",
        uid: 1000,
        subordinate_users: "other:100000:65536\nperson:165536:65536\n",
        subordinate_groups: "1000:165536:65536\n",
        unprivileged_clone: "1\n",
        most_namespaces: "15000\n",
    };

    #[test]
    fn namespaces_of_debian_and_ubuntu_pass() {
        assert_eq!(judge_namespaces(&GOOD).outcome, Outcome::Ok);
        let absent = Namespaces {
            unprivileged_clone: "",
            ..GOOD
        };
        assert_eq!(judge_namespaces(&absent).outcome, Outcome::Ok);
    }

    #[test]
    fn namespaces_obstacle_names_its_fix() {
        let cases = [
            (
                Namespaces {
                    unprivileged_clone: "0\n",
                    ..GOOD
                },
                "unprivileged_userns_clone=1",
            ),
            (
                Namespaces {
                    most_namespaces: "0\n",
                    ..GOOD
                },
                "max_user_namespaces=10000",
            ),
            (
                Namespaces {
                    subordinate_users: "other:1:65536\n",
                    ..GOOD
                },
                "--add-subuids",
            ),
            (
                Namespaces {
                    subordinate_groups: "person:1:100\n",
                    ..GOOD
                },
                "--add-subgids",
            ),
            (
                Namespaces {
                    subordinate_groups: "person\n:::\n",
                    ..GOOD
                },
                "--add-subgids",
            ),
        ];
        for (namespaces, expected) in cases {
            let finding = judge_namespaces(&namespaces);
            assert_eq!(finding.outcome, Outcome::Failure, "{finding:?}");
            assert!(finding.fix.unwrap().contains(expected), "{expected}");
        }
    }
}
