//! `template`.

use clap::{Args, Subcommand};

use super::values::with_hint;
use super::{JsonArguments, MachineArguments};
use sandbox_spec::KeyPrefix;

/// Arguments of `template`.
#[derive(Debug, Args)]
pub(crate) struct TemplateArguments {
    /// The subcommand.
    #[command(subcommand)]
    pub command: TemplateCommand,
}

/// Subcommands of `template`.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Build the template for starts with these options
    Build(TemplateBuildArguments),
    /// List saved templates and builds in progress
    #[command(visible_alias = "list")]
    Ls(JsonArguments),
    /// Show a template's machine, users and size
    Inspect {
        /// Template key, or its first digits
        #[arg(value_parser = with_hint::<KeyPrefix>)]
        key: KeyPrefix,
        /// Output format.
        #[command(flatten)]
        json: JsonArguments,
    },
    /// Remove templates (their sandboxes keep running)
    Rm {
        /// Template keys, or their first digits
        #[arg(value_name = "KEYS", required_unless_present = "all", value_parser = with_hint::<KeyPrefix>)]
        keys: Vec<KeyPrefix>,

        /// Remove all templates
        #[arg(short, long, conflicts_with = "keys")]
        all: bool,
    },
}

/// Arguments of `template build`.
#[derive(Debug, Args)]
pub(crate) struct TemplateBuildArguments {
    /// The machine.
    #[command(flatten)]
    pub machine: MachineArguments,
}
