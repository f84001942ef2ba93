//! `image`.

use clap::{Args, Subcommand};

use super::JsonArguments;
use super::values::with_hint;
use sandbox_spec::ImageReference;

/// Arguments of `image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArguments {
    /// The subcommand.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// Subcommands of `image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from its recipe
    Build {
        /// The recipe [possible values: debian-13, debian-13-minimal]
        #[arg(value_parser = with_hint::<ImageReference>)]
        recipe: ImageReference,
        /// Debian mirror [default: the one of this host's apt]
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// List the stored images
    #[command(visible_alias = "list")]
    Ls(JsonArguments),
    /// Show an image as JSON
    Inspect {
        /// The image
        #[arg(value_name = "IMAGE", value_parser = with_hint::<ImageReference>)]
        image_name: ImageReference,
    },
    /// Remove images
    Rm {
        /// The images
        #[arg(required = true, value_parser = with_hint::<ImageReference>)]
        images: Vec<ImageReference>,
    },
}
