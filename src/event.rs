//! The events of a start, and of image and template builds.

use std::fmt;

use sandbox_qemu::accelerator::FallbackWarning;
use sandbox_spec::{Accelerator, ImageReference};
use sandbox_store::image::build::BuildProgress;

use crate::supervisor::TemplateStage;

/// An event of a start, an image build or a template build.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The next stage began.
    Stage(Stage),
    /// The image is not stored, so the library builds it first. This takes minutes.
    ImageMissing {
        /// The image.
        image: ImageReference,
    },
    /// The image was built from another version of its recipe.
    ImageOutdated {
        /// The image.
        image: ImageReference,
    },
    /// The guest's processors are emulated, which is many times slower.
    Emulated(FallbackWarning),
    /// The sandbox already runs, and these settings of the start differ from its own.
    SettingsIgnored {
        /// The names of the settings, as in the configuration file.
        settings: Vec<&'static str>,
    },
    /// A part of the cloud-config is ignored.
    CloudConfigIgnored {
        /// The part, in words for a message.
        part: String,
    },
    /// Templates cannot be used, so the start boots the image.
    TemplatesUnusable {
        /// The reason.
        reason: String,
    },
    /// `~/.ssh/config` does not include the alias file for OpenSSH.
    AliasNotIncluded,
    /// A warning for the user. The start continues.
    Warning {
        /// The warning.
        message: String,
    },
    /// The sandbox accepts commands.
    Ready,
}

/// A stage of a start, an image build or a template build.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// The image is being built.
    Image(BuildProgress),
    /// A template is being built.
    Template(TemplateStage),
    /// The supervisor writes the overlay, the seed and the keys.
    PreparingDisk,
    /// QEMU runs, and the guest's kernel starts.
    Booting {
        /// The accelerator of the guest's processors.
        accelerator: Accelerator,
    },
    /// QEMU runs, and the saved guest resumes.
    Restoring,
    /// The guest's kernel runs.
    KernelUp,
    /// The guest's systemd starts.
    SystemdStarting,
    /// Readiness waits for a slow service of the guest.
    Waiting {
        /// The guest's reason, without control characters.
        reason: String,
    },
    /// The sandbox, or a cancelled start, is being stopped.
    Stopping,
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => stage.fmt(formatter),
            Self::ImageMissing { image } => {
                write!(formatter, "the image `{image}` is not stored; building it")
            }
            Self::ImageOutdated { image } => {
                write!(
                    formatter,
                    "the image `{image}` was built from another version of its recipe"
                )
            }
            Self::Emulated(warning) => warning.fmt(formatter),
            Self::SettingsIgnored { settings } => {
                let names = settings.join("`, `");
                write!(formatter, "already running; `{names}` ignored")
            }
            Self::CloudConfigIgnored { part } => {
                write!(formatter, "{part} of the cloud-config is ignored")
            }
            Self::TemplatesUnusable { reason } => {
                write!(formatter, "templates cannot be used: {reason}")
            }
            Self::AliasNotIncluded => {
                formatter.write_str("`~/.ssh/config` does not include `~/.ssh/config.d/`")
            }
            Self::Warning { message } => formatter.write_str(message),
            Self::Ready => formatter.write_str("ready"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(step) => write!(formatter, "building the image: {step:?}"),
            Self::Template(stage) => write!(formatter, "building the template: {stage:?}"),
            Self::PreparingDisk => formatter.write_str("preparing the disk"),
            Self::Booting { accelerator } => write!(formatter, "booting ({accelerator})"),
            Self::Restoring => formatter.write_str("restoring"),
            Self::KernelUp => formatter.write_str("the kernel is up"),
            Self::SystemdStarting => formatter.write_str("systemd starts"),
            Self::Waiting { reason } => write!(formatter, "waiting for {reason}"),
            Self::Stopping => formatter.write_str("stopping"),
        }
    }
}
