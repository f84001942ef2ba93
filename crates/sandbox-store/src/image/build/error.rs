//! Errors of image builds.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use sandbox_spec::ImageReference;

use super::super::error::ImageError;
use super::super::kernel::KernelError;
use super::super::modules::UnknownModule;

/// A failure of a build. Nothing of the build remains except its log.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A program that builds images is not installed.
    #[error("`{program}` not found, which image builds need")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// Debian's package of the program.
        package: &'static str,
    },
    /// The keys that sign Debian's archive are not installed.
    #[error("the keys of the Debian archive are not installed")]
    MissingKeyring,
    /// The user has no subordinate ids for a user namespace.
    #[error("user `{user}` has no range of at least 65536 subordinate ids in `{}`", path.display())]
    NoSubordinateIds {
        /// The login name.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        path: PathBuf,
    },
    /// The kernel does not let the user create user namespaces.
    #[error("the host forbids unprivileged user namespaces, which image builds need")]
    NoUserNamespaces {
        /// The sysctl that allows them, with its value.
        setting: &'static str,
    },
    /// The given mirror is not a URL of a Debian mirror.
    #[error("invalid mirror `{mirror}`")]
    InvalidMirror {
        /// The given text.
        mirror: String,
    },
    /// The disk had too little space, or became full during the build.
    #[error(
        "the disk is full: {} MiB free at `{}`",
        available_bytes >> 20,
        path.display()
    )]
    DiskFull {
        /// A directory on the full file system.
        path: PathBuf,
        /// The free space, in bytes.
        available_bytes: u64,
        /// The space that a build of a small image needs there, in bytes.
        needed_bytes: u64,
    },
    /// A program cannot be started.
    #[error("could not run `{program}`")]
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
        /// The image.
        name: ImageReference,
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines of its output.
        last_lines: String,
        /// The file with the whole output of the build.
        log: PathBuf,
    },
    /// The new image lacks a file that every bootable Debian has.
    #[error("the new root file system of `{name}` has no `{path}`")]
    MissingFile {
        /// The image.
        name: ImageReference,
        /// The path in the image.
        path: String,
    },
    /// The image has no kernel, or several.
    #[error("the new root file system of `{name}` has {count} kernels instead of one")]
    KernelCount {
        /// The image.
        name: ImageReference,
        /// The number of kernels.
        count: usize,
    },
    /// The recipe names a module that the kernel does not have.
    #[error("the recipe of `{name}` does not fit its kernel")]
    Module {
        /// The image.
        name: ImageReference,
        /// The cause.
        #[source]
        source: UnknownModule,
    },
    /// A module file cannot be decompressed.
    #[error("could not decompress the kernel module `{file}`")]
    DecompressModule {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The uncompressed kernel cannot be extracted.
    #[error("could not extract the kernel of `{name}`")]
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
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] ImageError),
}

impl From<FileError> for BuildError {
    fn from(error: FileError) -> Self {
        ImageError::from(error).into()
    }
}

impl BuildError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::MissingProgram { package, .. } => {
                Some(format!("install it: `sudo apt-get install {package}`").into())
            }
            Self::MissingKeyring => {
                Some("install them: `sudo apt-get install debian-archive-keyring`".into())
            }
            Self::NoSubordinateIds { user, .. } => Some(
                format!(
                    "add a range: `sudo usermod --add-subuids 100000-165535 \
                     --add-subgids 100000-165535 {user}`, or build as root"
                )
                .into(),
            ),
            Self::NoUserNamespaces { setting } => {
                Some(format!("allow them: `sudo sysctl {setting}`, or build as root").into())
            }
            Self::InvalidMirror { .. } => {
                Some("give an http or https URL, such as `http://deb.debian.org/debian`".into())
            }
            Self::DiskFull { needed_bytes, .. } => Some(
                Hint::text(format!(
                    "free at least {} MiB there, for example with ",
                    needed_bytes >> 20
                ))
                .command("image rm"),
            ),
            Self::Program {
                name,
                program: "mmdebstrap",
                ..
            } => Some(
                Hint::text("if the mirror is unreachable, choose another mirror: ")
                    .command(format!("image build {name} --mirror URL")),
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
