//! `template`.

use clap::{Args, Subcommand};

use super::values::with_hint;
use super::{JsonArguments, MachineArguments};
use sandbox_spec::KeyPrefix;

/// Arguments of `template`.
#[derive(Debug, Args)]
pub(crate) struct TemplateArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: TemplateCommand,
}

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Make the template that starts with these options will use
    Build(TemplateBuildArguments),
    /// List the templates, and those being made
    #[command(visible_alias = "list")]
    Ls(JsonArguments),
    /// Show a template: what it is for, and what it takes
    Inspect {
        /// The template's key, or its first digits
        #[arg(value_parser = with_hint::<KeyPrefix>)]
        key: KeyPrefix,
        /// In which form.
        #[command(flatten)]
        json: JsonArguments,
    },
    /// Remove templates; sandboxes that run from them go on
    Rm {
        /// The templates' keys, or their first digits
        #[arg(value_name = "KEYS", required_unless_present = "all", value_parser = with_hint::<KeyPrefix>)]
        keys: Vec<KeyPrefix>,

        /// Remove every template
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
