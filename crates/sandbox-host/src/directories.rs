//! The directories of images, state, data and configuration: the XDG directories and
//! `SANDBOX_HOME`.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::hint::Hint;

/// Why the directories cannot be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoriesError {
    /// Neither `HOME` nor the user database contains a home directory.
    #[error("home directory not found: `HOME` is not set")]
    NoHome,
    /// A variable contains a relative path, which the XDG specification forbids.
    #[error("invalid path `{}`: `{variable}` must be an absolute path", path.display())]
    Relative {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
}

impl DirectoriesError {
    /// Returns a hint with the variables to set.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NoHome => "set `HOME`, or `SANDBOX_HOME` and `XDG_CONFIG_HOME`".into(),
            Self::Relative { variable, .. } => {
                format!("set `{variable}` to an absolute path, or unset it").into()
            }
        })
    }
}

/// The directories of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// Images and the state of running sandboxes: `SANDBOX_HOME`, else `$XDG_CACHE_HOME/sandbox`,
    /// else `~/.cache/sandbox`. A start, a stop or `prune` removes what nothing uses there.
    pub state: PathBuf,
    /// Data that only an explicit command removes: `data` in `SANDBOX_HOME`, else
    /// `$XDG_DATA_HOME/sandbox`, else `~/.local/share/sandbox`. It is created with its first file.
    pub data: PathBuf,
    /// The user's configuration: `$XDG_CONFIG_HOME/sandbox`, else `~/.config/sandbox`.
    pub config: PathBuf,
    /// The user's home directory.
    pub home: PathBuf,
    /// A directory for sockets whose path in `state` does not fit into a socket address:
    /// `$XDG_RUNTIME_DIR`, else `/tmp`.
    pub runtime: PathBuf,
}

impl Directories {
    /// Reads the environment of the process.
    ///
    /// # Errors
    /// [`DirectoriesError`] if a directory is unknown or relative.
    pub fn from_environment() -> Result<Self, DirectoriesError> {
        Self::from_variables(|name| std::env::var_os(name), etcetera::home_dir().ok())
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<Self, DirectoriesError> {
        let read = |name: &'static str| -> Result<Option<PathBuf>, DirectoriesError> {
            match variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
            {
                Some(path) if path.is_relative() => Err(DirectoriesError::Relative {
                    variable: name,
                    path,
                }),
                other => Ok(other),
            }
        };
        let home = home.filter(|path| path.is_absolute());
        let in_home = |below: &str| {
            home.as_deref()
                .map(|home| home.join(below))
                .ok_or(DirectoriesError::NoHome)
        };
        let own = read("SANDBOX_HOME")?;
        let state = match (&own, read("XDG_CACHE_HOME")?) {
            (Some(own), _) => own.clone(),
            (None, Some(cache)) => cache.join("sandbox"),
            (None, None) => in_home(".cache/sandbox")?,
        };
        let data = match (own, read("XDG_DATA_HOME")?) {
            (Some(own), _) => own.join("data"),
            (None, Some(data)) => data.join("sandbox"),
            (None, None) => in_home(".local/share/sandbox")?,
        };
        let config = match read("XDG_CONFIG_HOME")? {
            Some(config) => config.join("sandbox"),
            None => in_home(".config/sandbox")?,
        };
        Ok(Self {
            state,
            data,
            config,
            home: in_home("")?,
            runtime: read("XDG_RUNTIME_DIR")?.unwrap_or_else(|| PathBuf::from("/tmp")),
        })
    }

    /// Returns the directory of the image store.
    pub fn images(&self) -> PathBuf {
        self.state.join("kvm-cache")
    }

    /// Returns the directory of the template store.
    pub fn templates(&self) -> PathBuf {
        self.images().join("templates")
    }

    /// Returns the directory of guests that are being saved as templates.
    pub fn building(&self) -> PathBuf {
        self.state.join("building")
    }

    /// Returns the directory of the logs of image and template builds.
    pub fn build_logs(&self) -> PathBuf {
        self.images().join("logs")
    }

    /// Returns the parent of all state directories of sandboxes.
    pub fn sandboxes(&self) -> PathBuf {
        self.state.join("kvm-vms")
    }

    /// Returns the parent of all [`proxy`](Self::proxy) directories.
    pub fn proxies(&self) -> PathBuf {
        self.state.join("sandbox-proxy")
    }

    /// Returns the directory of a sandbox's allowlist and access log, which outlive the sandbox.
    pub fn proxy(&self, name: &str) -> PathBuf {
        self.proxies().join(name)
    }

    /// Returns the path of the user's configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn directories(variables: &[(&str, &str)]) -> Result<Directories, DirectoriesError> {
        Directories::from_variables(
            |name| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            },
            Some(PathBuf::from("/home/alice")),
        )
    }

    #[test]
    fn directories_without_variables_are_below_the_home_directory() {
        let found = directories(&[]).unwrap();
        assert_eq!(found.state, Path::new("/home/alice/.cache/sandbox"));
        assert_eq!(found.data, Path::new("/home/alice/.local/share/sandbox"));
        assert_eq!(found.config, Path::new("/home/alice/.config/sandbox"));
        assert_eq!(found.home, Path::new("/home/alice/"));
        assert_eq!(found.runtime, Path::new("/tmp"));
    }

    #[test]
    fn sandbox_home_takes_precedence_over_xdg_directories() {
        let found =
            directories(&[("SANDBOX_HOME", "/srv/vm"), ("XDG_CACHE_HOME", "/var/c")]).unwrap();
        assert_eq!(found.images(), Path::new("/srv/vm/kvm-cache"));
        let found = directories(&[("SANDBOX_HOME", ""), ("XDG_CACHE_HOME", "/var/c")]).unwrap();
        assert_eq!(found.sandboxes(), Path::new("/var/c/sandbox/kvm-vms"));
    }

    #[test]
    fn data_directory_is_apart_from_state() {
        let found = directories(&[("XDG_CACHE_HOME", "/var/c"), ("XDG_DATA_HOME", "/var/d")]);
        let found = found.unwrap();
        assert_eq!(found.data, Path::new("/var/d/sandbox"));
        assert_eq!(found.state, Path::new("/var/c/sandbox"));
        let found = directories(&[("SANDBOX_HOME", "/srv/vm"), ("XDG_DATA_HOME", "/var/d")]);
        assert_eq!(found.unwrap().data, Path::new("/srv/vm/data"));
    }

    #[test]
    fn relative_directory_is_refused() {
        assert!(matches!(
            directories(&[("XDG_CACHE_HOME", "cache")]),
            Err(DirectoriesError::Relative {
                variable: "XDG_CACHE_HOME",
                ..
            })
        ));
    }
}
