//! The alias file `~/.ssh/config.d/alias-NAME.conf`, with which `ssh NAME` works.

use std::path::{Path, PathBuf};

use super::error::KeyError;
use super::include;
use super::openssh::{Endpoint, options};
use sandbox_host::files::{read_if_present, write_private};

/// The maximum number of bytes read from `~/.ssh/config`.
const LARGEST_CONFIGURATION: u64 = 1 << 20;

/// The alias files of a user.
#[derive(Debug, Clone)]
pub(crate) struct Aliases {
    home: PathBuf,
}

/// The result of writing an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// `ssh NAME` works.
    Usable(PathBuf),
    /// The file exists, but `~/.ssh/config` does not include it.
    NotIncluded(PathBuf),
    /// `~/.ssh/config.d/` does not exist, so no alias was written.
    Unwanted,
}

impl Aliases {
    /// Returns the aliases of the user with the home directory `home`.
    pub(crate) fn of_home(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into() }
    }

    /// Returns the path of the alias of the sandbox `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home
            .join(".ssh/config.d")
            .join(format!("alias-{name}.conf"))
    }

    /// Writes the alias of the sandbox `name` if the user has the directory for it.
    ///
    /// # Errors
    /// Fails if the file cannot be written, or if `~/.ssh/config` cannot be read.
    pub(crate) fn write(&self, name: &str, endpoint: &Endpoint) -> Result<Written, KeyError> {
        let path = self.path(name);
        if !path.parent().is_some_and(Path::is_dir) {
            return Ok(Written::Unwanted);
        }
        write_private(&path, &text(name, endpoint))?;
        let configuration = read_if_present(&self.home.join(".ssh/config"), LARGEST_CONFIGURATION)?
            .unwrap_or_default();
        if include::includes(&configuration, &self.home, &path) {
            Ok(Written::Usable(path))
        } else {
            Ok(Written::NotIncluded(path))
        }
    }
}

/// Returns the content of the alias file, in the format of ssh_config(5).
fn text(name: &str, endpoint: &Endpoint) -> Vec<u8> {
    let mut text =
        format!("# Written by `sandbox`, removed when `{name}` stops.\nHost {name}\n").into_bytes();
    for (option, value) in options(endpoint) {
        text.extend([b"    ", option.as_bytes(), b" ", &value, b"\n"].concat());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::keys::{KeyFiles, Keys};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn endpoint(directory: &Path) -> Endpoint {
        let keys = KeyFiles::in_directory(directory);
        Endpoint {
            address: "127.0.0.1:2222".parse().unwrap(),
            user: "dev".into(),
            identity: keys.identity(),
            host_key: Keys::generate("box").unwrap().host_key,
            host_key_alias: "box".into(),
            known_hosts: keys.known_hosts(),
        }
    }

    #[test]
    fn alias_needs_its_directory_and_an_include() {
        let home = tempfile::tempdir().unwrap();
        let aliases = Aliases::of_home(home.path());
        let endpoint = endpoint(home.path());
        assert_eq!(aliases.write("box", &endpoint).unwrap(), Written::Unwanted);
        assert!(!home.path().join(".ssh").exists());

        fs::create_dir_all(home.path().join(".ssh/config.d")).unwrap();
        let path = aliases.path("box");
        assert_eq!(
            aliases.write("box", &endpoint).unwrap(),
            Written::NotIncluded(path.clone())
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);

        fs::write(home.path().join(".ssh/config"), "Include config.d/*\n").unwrap();
        assert_eq!(
            aliases.write("box", &endpoint).unwrap(),
            Written::Usable(path.clone())
        );
    }

    #[test]
    fn openssh_resolves_alias_and_command_options() {
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("a \"b\" 100% c");
        fs::create_dir(&odd).unwrap();
        let endpoint = endpoint(&odd);
        let file = directory.path().join("alias.conf");
        fs::write(&file, text("box", &endpoint)).unwrap();
        let argv = endpoint.openssh_command();
        // `-G` prints the options as `ssh` would use them.
        let from_file = Command::new("ssh")
            .args(["-G", "-F"])
            .arg(&file)
            .arg("box")
            .output();
        let from_argv = Command::new(&argv[0]).arg("-G").args(&argv[1..]).output();
        for output in [from_file.unwrap(), from_argv.unwrap()] {
            let resolved = String::from_utf8(output.stdout).unwrap();
            let has = |line: &str| resolved.lines().any(|resolved| resolved == line);
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(has("hostname 127.0.0.1"), "{resolved}{complaint}");
            assert!(has("port 2222"), "{resolved}");
            assert!(has("user dev"), "{resolved}");
            assert!(has("hostkeyalias box"), "{resolved}");
            assert!(has("stricthostkeychecking true"), "{resolved}");
            assert!(has("identitiesonly yes"), "{resolved}");
            let known_hosts = endpoint.known_hosts.display();
            assert!(
                has(&format!("userknownhostsfile {known_hosts}")),
                "{resolved}"
            );
        }
    }
}
