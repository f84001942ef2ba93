//! `sandbox proxy`: the allowlist and the access log of running and stopped sandboxes.

mod ask;
mod blocked;
mod edit;
mod follow;
mod info;
mod logs;

use std::path::PathBuf;

use super::Outcome;
use super::context::Context;
use crate::cli::{ProxyArguments, ProxyCommand};
use crate::output::Report;
use sandbox::Found;
use sandbox_gateway::allowlist::ListFile;
use sandbox_protocol::Record;
use sandbox_spec::SandboxName;

/// The sandbox of a command, and its files.
struct Subject {
    name: SandboxName,
    /// The directory of the allowlist, and of the log in proxy mode.
    directory: PathBuf,
    /// The directory of the log. Without `--proxy`, the log is removed with the sandbox.
    log_directory: PathBuf,
}

impl Subject {
    fn new(context: &Context, given: Option<&SandboxName>) -> Result<Self, Report> {
        let name = context.name(given)?;
        let own = context.host.directories().proxy(name.as_str());
        let found = context.host.find(&name)?;
        let record = found.as_ref().and_then(Found::record);
        let (directory, log_directory) = match record {
            // A sandbox of `run` uses the allowlist of its directory's sandbox.
            Some(record) if record.network.proxy => {
                let shared = record.network_directory.clone();
                (shared.clone(), shared)
            }
            Some(record) => (own, record.network_directory.clone()),
            None => (own.clone(), own),
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

    /// Returns the sandbox if it is running.
    fn running(&self, context: &Context) -> Result<Option<Found>, Report> {
        Ok(context.host.find(&self.name)?)
    }

    /// Returns the running sandboxes with this allowlist: the sandbox itself, and those of `run` in
    /// its directory.
    fn users(&self, context: &Context) -> Result<Vec<Found>, Report> {
        let mut users = context.host.sandboxes()?;
        let is_user =
            |record: &Record| record.network.proxy && record.network_directory == self.directory;
        users.retain(|found| found.record().is_some_and(is_user));
        Ok(users)
    }
}

/// Returns whether a running sandbox uses the allowlist.
fn uses_allowlist(found: &Found) -> bool {
    found.record().is_some_and(|record| record.network.proxy)
}

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    arguments: ProxyArguments,
) -> Outcome {
    let subject = Subject::new(context, arguments.name.name.as_ref().or(name))?;
    match arguments.command {
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
