//! What happens on the way to a running sandbox.

use std::fmt;

use sandbox_qemu::accelerator::FallbackWarning;
use sandbox_spec::{Accelerator, ImageReference};
use sandbox_store::image::build::BuildProgress;

use crate::supervisor::TemplateStage;

/// Something that happened on the way to a running sandbox, an image or a template.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Another stage began.
    Stage(Stage),
    /// The image is not stored and is built first, which takes minutes.
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
        /// Names of settings.
        settings: Vec<&'static str>,
    },
    /// A part of the cloud-config is ignored.
    CloudConfigIgnored {
        /// Which part.
        part: String,
    },
    /// Templates cannot be used: the start boots.
    TemplatesUnusable {
        /// Why.
        reason: String,
    },
    /// The alias for OpenSSH was written where `~/.ssh/config` does not look.
    AliasNotIncluded,
    /// Something that the user should know and that ends nothing.
    Warning {
        /// What.
        message: String,
    },
    /// Sessions can enter the sandbox.
    Ready,
}

/// A stage on the way to a running sandbox, an image or a template.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// The image is being built.
    Image(BuildProgress),
    /// A template is being made.
    Template(TemplateStage),
    /// The supervisor makes the overlay, the seed and the keys.
    PreparingDisk,
    /// QEMU runs, and the guest's kernel is about to.
    Booting {
        /// How its processors run.
        accelerator: Accelerator,
    },
    /// QEMU runs, and the saved guest is about to continue in it.
    Restoring,
    /// The guest's kernel is up.
    KernelUp,
    /// The guest's systemd takes over.
    SystemdStarting,
    /// Readiness waits for something that takes its time.
    Waiting {
        /// What for, in a few words of the guest's, cleaned.
        reason: String,
    },
    /// A start that was cancelled, or a sandbox, is being stopped.
    Stopping,
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => stage.fmt(formatter),
            Self::ImageMissing { image } => {
                write!(formatter, "the image `{image}` is not stored and is built")
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
            Self::Template(stage) => write!(formatter, "making the template: {stage:?}"),
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
