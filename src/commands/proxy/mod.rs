//! `sandbox proxy`: the list of allowed domains and the access log, of running
//! and of stopped sandboxes.

mod ask;
mod blocked;
mod edit;
mod follow;
mod info;
mod logs;

use std::path::PathBuf;

use super::context::Context;
use super::{Outcome, target};
use crate::cli::ProxyCommand;
use crate::network::allowlist::ListFile;
use crate::output::Report;
use crate::sandbox::SandboxName;
use crate::sandbox::lifecycle::{self, Found};

/// Whose proxy a command is about.
struct Subject {
    name: SandboxName,
    /// Where the list lies, and the log of sandboxes in proxy mode.
    directory: PathBuf,
    /// Where the log lies: that of a sandbox without `--proxy` goes with it.
    log_directory: PathBuf,
}

impl Subject {
    fn new(context: &Context) -> Result<Self, Report> {
        let name = target::name(context, None)?;
        let directory = context.directories.proxy(name.as_str());
        let log_directory = match lifecycle::find(&context.directories, &name)? {
            Some(found) if !uses_the_list(&found) => found.layout.directory().to_owned(),
            _ => directory.clone(),
        };
        Ok(Self {
            name,
            directory,
            log_directory,
        })
    }

    fn list(&self) -> ListFile {
        ListFile::in_directory(&self.directory)
    }

    /// The sandbox, if it runs.
    fn running(&self, context: &Context) -> Result<Option<Found>, Report> {
        Ok(lifecycle::find(&context.directories, &self.name)?)
    }
}

/// Whether a running sandbox looks at the list.
fn uses_the_list(found: &Found) -> bool {
    found.record().is_some_and(|record| record.network.proxy)
}

pub(super) async fn run(context: &Context, command: ProxyCommand) -> Outcome {
    let subject = Subject::new(context)?;
    match command {
        ProxyCommand::Allow(arguments) => edit::allow(context, &subject, &arguments).await,
        ProxyCommand::Remove(arguments) => edit::remove(context, &subject, &arguments).await,
        ProxyCommand::Reset { cut } => edit::reset(context, &subject, cut).await,
        ProxyCommand::List(arguments) => edit::list(context, &subject, arguments.json),
        ProxyCommand::Blocked { watch, json } => {
            blocked::run(context, &subject, watch, json.json).await
        }
        ProxyCommand::Logs {
            follow,
            lines,
            json,
        } => logs::run(context, &subject, follow, lines, json.json).await,
        ProxyCommand::Info(arguments) => info::run(context, &subject, arguments.json),
        ProxyCommand::Ask => ask::run(context, &subject).await,
    }
}
