//! The host: the directories and programs that sandboxes use.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbox_host::directories::Directories;
use sandbox_qemu::program::{self, Search};
use sandbox_spec::SandboxName;
use sandbox_store::image::ImageStore;
use sandbox_store::template::TemplateStore;
use serde::{Deserialize, Serialize};

use crate::doctor::{self, Finding};
use crate::error::Error;
use crate::registry::{self, Found};

/// The variable that names the `sandbox` program for detached supervisors.
const PROGRAM_VARIABLE: &str = "SANDBOX_PROGRAM";

/// The name of the installed program.
const PROGRAM: &str = "sandbox";

/// The host of sandboxes: the directories of their state, and the programs that run them.
///
/// [`from_environment`](Self::from_environment) is the only function of the library that reads the
/// environment.
#[derive(Debug, Clone)]
pub struct Host(Arc<Parts>);

/// The values of a host, which another process can receive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) directories: Directories,
    /// The QEMU program that the user named.
    qemu: Option<OsString>,
    /// The directories of programs, in the format of the variable `PATH`.
    search_path: Option<OsString>,
    /// The `sandbox` program.
    program: Option<PathBuf>,
}

impl Host {
    /// Creates a host from this process's environment: `SANDBOX_HOME`, `SANDBOX_QEMU`,
    /// `SANDBOX_PROGRAM`, `PATH`, `HOME` and the XDG directories.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where no home directory is
    /// known, or a variable holds a relative path.
    pub fn from_environment() -> Result<Self, Error> {
        let search_path = std::env::var_os("PATH");
        let program = std::env::var_os(PROGRAM_VARIABLE)
            .map(PathBuf::from)
            .or_else(|| program::on_search_path(PROGRAM.as_ref(), search_path.as_deref()));
        Ok(Self(Arc::new(Parts {
            directories: Directories::from_environment()?,
            qemu: std::env::var_os(program::OVERRIDE_VARIABLE),
            search_path,
            program,
        })))
    }

    /// Sets the path of the `sandbox` program, which runs detached supervisors and template builds.
    #[must_use]
    pub fn program(self, program: impl Into<PathBuf>) -> Self {
        let mut parts = Arc::unwrap_or_clone(self.0);
        parts.program = Some(program.into());
        Self(Arc::new(parts))
    }

    pub(crate) fn from_parts(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    pub(crate) fn installed_program(&self) -> Option<&Path> {
        self.0.program.as_deref()
    }

    /// Returns the parameters of the search for QEMU, which caches its results in
    /// `cache_directory`.
    pub(crate) fn search<'a>(&'a self, cache_directory: &'a Path) -> Search<'a> {
        Search {
            program_override: self.0.qemu.as_deref(),
            search_path: self.0.search_path.as_deref(),
            cache_directory,
        }
    }

    /// Returns the directories of state, images and configuration.
    pub fn directories(&self) -> &Directories {
        &self.0.directories
    }

    /// Returns the image store.
    pub fn images(&self) -> ImageStore {
        ImageStore::new(self.directories().images())
    }

    /// Returns the template store.
    pub fn templates(&self) -> TemplateStore {
        TemplateStore::new(self.directories())
    }

    /// Returns the sandboxes that run, start or end, sorted by name. Removes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the state cannot be read.
    pub fn sandboxes(&self) -> Result<Vec<Found>, Error> {
        Ok(registry::list(self.directories())?)
    }

    /// Returns the sandbox of this name if it runs, starts or ends. Removes nothing.
    ///
    /// # Errors
    /// As [`sandboxes`](Self::sandboxes).
    pub fn find(&self, name: &SandboxName) -> Result<Option<Found>, Error> {
        Ok(registry::find(self.directories(), name)?)
    }

    /// Returns the name of a workspace's sandbox: `sandbox-` and the directory's name, with a part
    /// of the path's digest if another workspace has that name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the directory's name is
    /// unsuitable, or the directory cannot be shared.
    pub fn name_for(&self, workspace: &Path) -> Result<SandboxName, Error> {
        let workspace = crate::spec::shareable_directory(workspace)?;
        Ok(registry::name_for(self.directories(), &workspace)?)
    }

    /// Checks whether this host can run sandboxes. Returns the findings in the order in which to
    /// fix them.
    ///
    /// Takes less than a second on a healthy host. Changes nothing but the caches of its probes.
    pub fn doctor(&self) -> Vec<Finding> {
        doctor::run_all(&doctor::Context {
            directories: self.directories().clone(),
            program_override: self.0.qemu.clone(),
            search_path: self.0.search_path.clone(),
            distribution: sandbox_host::distribution::Distribution::of_this_machine(),
        })
    }
}
