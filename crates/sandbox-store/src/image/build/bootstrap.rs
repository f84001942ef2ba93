//! The call of mmdebstrap.

use std::path::Path;
use std::process::Command;

use super::super::recipe::Recipe;
use super::mirror::Mirrors;
use super::tools::{Privilege, Tools, search_path};

/// What a recipe without documentation leaves out, and what it keeps of that: the licences.
const EXCLUDED: [&str; 4] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
];
const KEPT: &str = "/usr/share/doc/*/copyright";

/// The command that installs `recipe` into the directory `root` and runs `hook` there.
/// `temporary` is for temporary files.
pub(super) fn command(
    recipe: &Recipe,
    tools: &Tools,
    mirrors: &Mirrors,
    apt_options: &[String],
    directories: &BootstrapPaths<'_>,
) -> Command {
    let mut command = match tools.privilege {
        // Mounts and processes of maintainer scripts end with mmdebstrap, however it ends.
        // In a user namespace mmdebstrap does the same by itself.
        Privilege::Root => {
            let mut command = Command::new(&tools.unshare);
            command
                .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
                .arg("--")
                .arg(&tools.mmdebstrap)
                .arg("--mode=root");
            command
        }
        Privilege::UserNamespace => {
            let mut command = Command::new(&tools.mmdebstrap);
            command.arg("--mode=unshare");
            command
        }
    };
    // Ubuntu's apt does not trust Debian's keys. This adds them to those that the
    // host's apt trusts, which may be a local mirror's.
    command.arg(format!("--keyring={}", tools.keyring.display()));
    command.args(arguments(recipe, apt_options));
    command.arg(format!("--customize-hook={}", directories.hook.display()));
    command.arg(&recipe.suite).arg(directories.root);
    command.args(mirrors.source_lines(&recipe.suite));
    prepare(&mut command, directories.temporary);
    command
}

/// The directories mmdebstrap works with; all of them must be reachable for subordinate ids.
pub(super) struct BootstrapPaths<'a> {
    /// The new root.
    pub(super) root: &'a Path,
    /// The customize hook, executable.
    pub(super) hook: &'a Path,
    /// For temporary files.
    pub(super) temporary: &'a Path,
}

/// A command that runs `program` as the owner of the new root's files.
pub(super) fn as_owner(tools: &Tools, program: &Path, temporary: &Path) -> Command {
    let mut command = match tools.privilege {
        Privilege::Root => Command::new(program),
        Privilege::UserNamespace => {
            let mut command = Command::new(&tools.mmdebstrap);
            command.arg("--unshare-helper").arg(program);
            command
        }
    };
    prepare(&mut command, temporary);
    command
}

fn arguments(recipe: &Recipe, apt_options: &[String]) -> Vec<String> {
    let packages: Vec<_> = recipe.packages.iter().map(String::as_str).collect();
    let mut arguments: Vec<String> = [
        // apt's and dpkg's own lines, which the progress is read from.
        "--verbose",
        "--variant=minbase",
        "--format=directory",
        "--architectures=amd64",
        // A build that is cut off is thrown away: no need to wait for the disk at each file.
        // The customize hook takes it back.
        "--dpkgopt=force-unsafe-io",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("--include={}", packages.join(",")));
    arguments.extend(
        apt_options
            .iter()
            .map(|option| format!("--aptopt={option}")),
    );
    if !recipe.documentation {
        let exclude = EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}"));
        arguments.extend(exclude);
        arguments.push(format!("--dpkgopt=path-include={KEPT}"));
    }
    arguments
}

/// The surroundings of programs that run with subordinate ids.
fn prepare(command: &mut Command, temporary: &Path) {
    command
        // Neither the working directory nor the home need be reachable for them.
        .current_dir("/")
        .env("HOME", temporary)
        .env("TMPDIR", temporary)
        .env("PATH", search_path())
        .env("LC_ALL", "C.UTF-8")
        // The image's initrd is ours; Debian's would be made and never used
        // (/etc/kernel/postinst.d/initramfs-tools).
        .env("INITRD", "No");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(privilege: Privilege, documentation: bool) -> Vec<String> {
        let recipe = Recipe {
            name: "test".parse().unwrap(),
            description: String::new(),
            suite: "trixie".to_owned(),
            packages: ["systemd".to_owned(), "bash".to_owned()].into(),
            documentation,
            modules: Vec::new(),
            command_line: String::new(),
        };
        let tools = Tools {
            privilege,
            mmdebstrap: "/usr/bin/mmdebstrap".into(),
            unshare: "/usr/bin/unshare".into(),
            mkfs: "/sbin/mkfs.ext4".into(),
            debugfs: "/sbin/debugfs".into(),
            qemu_img: "/usr/bin/qemu-img".into(),
            keyring: "/usr/share/keyrings/debian-archive-keyring.gpg".into(),
        };
        let mirrors = Mirrors {
            main: "http://m/debian".to_owned(),
            security: None,
        };
        let paths = BootstrapPaths {
            root: Path::new("/s/root"),
            hook: Path::new("/s/payload/assemble"),
            temporary: Path::new("/s"),
        };
        let options = ["Acquire::Check-Date \"false\"".to_owned()];
        let command = command(&recipe, &tools, &mirrors, &options, &paths);
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn user_builds_in_a_user_namespace() {
        assert_eq!(
            words(Privilege::UserNamespace, true),
            [
                "/usr/bin/mmdebstrap",
                "--mode=unshare",
                "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
                "--verbose",
                "--variant=minbase",
                "--format=directory",
                "--architectures=amd64",
                "--dpkgopt=force-unsafe-io",
                "--include=bash,systemd",
                "--aptopt=Acquire::Check-Date \"false\"",
                "--customize-hook=/s/payload/assemble",
                "trixie",
                "/s/root",
                "deb http://m/debian trixie main",
                "deb http://m/debian trixie-updates main",
            ]
        );
    }

    #[test]
    fn root_builds_in_namespaces_that_end_with_it() {
        let words = words(Privilege::Root, true);
        assert_eq!(words[0], "/usr/bin/unshare");
        assert!(words.iter().any(|word| word == "--kill-child"));
        assert!(words.iter().any(|word| word == "--mode=root"));
    }

    #[test]
    fn documentation_is_left_out_on_request() {
        let with = words(Privilege::Root, true);
        let without = words(Privilege::Root, false);
        let has = |words: &[String], text: &str| words.iter().any(|word| word == text);
        assert!(!with.iter().any(|word| word.starts_with("--dpkgopt=path-")));
        assert!(has(&without, "--dpkgopt=path-exclude=/usr/share/man/*"));
        assert!(has(
            &without,
            "--dpkgopt=path-include=/usr/share/doc/*/copyright"
        ));
    }
}
