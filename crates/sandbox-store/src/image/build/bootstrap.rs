//! The command line of mmdebstrap.

use std::path::Path;
use std::process::Command;

use super::super::recipe::Recipe;
use super::mirror::Mirrors;
use super::tools::{Privilege, Tools, search_path};

/// The files that an image without documentation lacks, except for the licences in [`KEPT`].
const EXCLUDED: [&str; 4] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
];
const KEPT: &str = "/usr/share/doc/*/copyright";

/// Returns the command that installs `recipe` into the new root and runs the customize hook there.
pub(super) fn command(
    recipe: &Recipe,
    tools: &Tools,
    mirrors: &Mirrors,
    apt_options: &[String],
    directories: &BootstrapPaths<'_>,
) -> Command {
    let mut command = match tools.privilege {
        // Mounts and processes of maintainer scripts end with mmdebstrap, even if it is killed. In
        // a user namespace, mmdebstrap does the same.
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
    // Ubuntu's apt does not trust Debian's keys. This option adds them to the keys that the host's
    // apt trusts, which can include the key of a local mirror.
    command.arg(format!("--keyring={}", tools.keyring.display()));
    command.args(arguments(recipe, apt_options));
    command.arg(format!("--customize-hook={}", directories.hook.display()));
    command.arg(&recipe.suite).arg(directories.root);
    command.args(mirrors.source_lines(&recipe.suite));
    prepare(&mut command, directories.temporary);
    command
}

/// The paths of mmdebstrap. Subordinate ids must be able to reach all of them.
pub(super) struct BootstrapPaths<'a> {
    /// The new root.
    pub(super) root: &'a Path,
    /// The customize hook, executable.
    pub(super) hook: &'a Path,
    /// The directory for temporary files.
    pub(super) temporary: &'a Path,
}

/// Returns a command that runs `program` as the owner of the new root's files.
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
        // The progress is read from the lines of apt and dpkg.
        "--verbose",
        "--variant=minbase",
        "--format=directory",
        "--architectures=amd64",
        // An interrupted build is discarded, so dpkg need not flush each file. The customize hook
        // removes this setting.
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

/// Sets directory and environment of a program that runs with subordinate ids.
fn prepare(command: &mut Command, temporary: &Path) {
    command
        // Subordinate ids may be unable to reach the working directory and the home.
        .current_dir("/")
        .env("HOME", temporary)
        .env("TMPDIR", temporary)
        .env("PATH", search_path())
        .env("LC_ALL", "C.UTF-8")
        // An initrd of Debian (/etc/kernel/postinst.d/initramfs-tools) would never be used.
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
    fn command_as_user_uses_user_namespace() {
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
    fn command_as_root_uses_namespaces_that_end_with_it() {
        let words = words(Privilege::Root, true);
        assert_eq!(words[0], "/usr/bin/unshare");
        assert!(words.iter().any(|word| word == "--kill-child"));
        assert!(words.iter().any(|word| word == "--mode=root"));
    }

    #[test]
    fn command_without_documentation_excludes_it() {
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
