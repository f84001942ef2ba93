//! What can go wrong while an image is built.

use sandbox_host::hint::Hint;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::super::error::ImageError;
use super::super::kernel::KernelError;
use super::super::modules::UnknownModule;
use sandbox_spec::ImageReference;

/// A failure of a build. Nothing of the build is left when it is returned, apart from its log.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A program that builds images is not installed.
    #[error("`{program}` is needed to build an image and was not found")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// Debian's package of it.
        package: &'static str,
    },
    /// The keys that sign Debian's archive are not installed.
    #[error("the keys of the Debian archive are not installed")]
    MissingKeyring,
    /// The user has no ids for a user namespace.
    #[error("user `{user}` has no range of at least 65536 subordinate ids in `{}`", path.display())]
    NoSubordinateIds {
        /// The login name.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        path: PathBuf,
    },
    /// The kernel does not let the user create user namespaces.
    #[error("unprivileged user namespaces are switched off by `{setting}`")]
    NoUserNamespaces {
        /// The sysctl.
        setting: &'static str,
    },
    /// The given mirror is not a URL of a Debian mirror.
    #[error("`{mirror}` is not the URL of a Debian mirror")]
    InvalidMirror {
        /// What was given.
        mirror: String,
    },
    /// Too little space was there, or it was used up on the way.
    #[error(
        "the disk is full: {} MiB free at `{}`",
        available_bytes >> 20,
        path.display()
    )]
    DiskFull {
        /// A directory on that file system.
        path: PathBuf,
        /// What was free, in bytes.
        available_bytes: u64,
        /// What a build of a small image needs there, in bytes.
        needed_bytes: u64,
    },
    /// A program could not be started.
    #[error("cannot run `{program}`")]
    Start {
        /// The program.
        program: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("`{program}` failed ({status}), the end of `{}`:\n{last_lines}", log.display())]
    Program {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it printed.
        last_lines: String,
        /// The file with everything that was printed.
        log: PathBuf,
    },
    /// A file that every bootable Debian has is not in the new image.
    #[error("the new root file system of `{name}` has no `{path}`")]
    MissingFile {
        /// The image.
        name: ImageReference,
        /// The path in the image.
        path: String,
    },
    /// The image has no kernel or several.
    #[error("the new root file system of `{name}` has {count} kernels instead of one")]
    KernelCount {
        /// The image.
        name: ImageReference,
        /// How many there are.
        count: usize,
    },
    /// The recipe asks for a module that the kernel does not have.
    #[error("the recipe of `{name}` does not fit its kernel")]
    Module {
        /// The image.
        name: ImageReference,
        /// The cause.
        #[source]
        source: UnknownModule,
    },
    /// A module file cannot be decompressed.
    #[error("cannot decompress the kernel module `{file}`")]
    DecompressModule {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel has no uncompressed form that QEMU can start.
    #[error("cannot unpack the kernel of `{name}`")]
    Kernel {
        /// The image.
        name: ImageReference,
        /// The cause.
        #[source]
        source: KernelError,
    },
    /// The build was cancelled.
    #[error("the build of image `{name}` was cancelled")]
    Cancelled {
        /// The image.
        name: ImageReference,
    },
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] ImageError),
}

impl BuildError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::MissingProgram { package, .. } => {
                Some(format!("install it: `apt-get install {package}`").into())
            }
            Self::MissingKeyring => {
                Some("install them: `apt-get install debian-archive-keyring`".into())
            }
            Self::NoSubordinateIds { user, .. } => Some(
                format!(
                    "add a range: `sudo usermod --add-subuids 100000-165535 --add-subgids \
                 100000-165535 {user}`, or build as root"
                )
                .into(),
            ),
            Self::NoUserNamespaces { setting } => {
                Some(format!("allow them with `sudo sysctl {setting}`, or build as root").into())
            }
            Self::InvalidMirror { .. } => Some(
                "a mirror looks like `http://deb.debian.org/debian`; http and https are possible"
                    .into(),
            ),
            Self::DiskFull { needed_bytes, .. } => Some(
                format!(
                    "at least {} MiB must be free there; `sandbox image rm` removes images",
                    needed_bytes >> 20
                )
                .into(),
            ),
            Self::Program {
                program: "mmdebstrap",
                ..
            } => Some(
                "if the mirror could not be reached, choose another one with `--mirror URL`".into(),
            ),
            Self::Store(source) => source.hint(),
            Self::Start { .. }
            | Self::Program { .. }
            | Self::MissingFile { .. }
            | Self::KernelCount { .. }
            | Self::Module { .. }
            | Self::DecompressModule { .. }
            | Self::Kernel { .. }
            | Self::Cancelled { .. } => None,
        }
    }
}
