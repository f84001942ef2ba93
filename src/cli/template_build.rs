//! `template build`.

use clap::Args;

/// Arguments of `template build`; the machine is that of the global options.
#[derive(Debug, Args)]
pub struct TemplateBuildArguments {
    /// How many shares the template has room for, the workspace not counted;
    /// by default what `--share` asks for
    #[arg(long, value_name = "COUNT", hide = true)]
    pub share_count: Option<usize>,

    /// Yield to everything else that runs
    #[arg(long, hide = true)]
    pub background: bool,
}
