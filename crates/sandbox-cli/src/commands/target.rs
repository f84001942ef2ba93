//! Which sandbox a command is about.

use std::path::PathBuf;

use super::context::Context;
use crate::output::Report;
use sandbox::lifecycle::{self, Found};
use sandbox::shareable_directory;
use sandbox_host::files::FileError;
use sandbox_spec::SandboxName;

/// The current directory, if it can be a workspace.
pub(super) fn workspace() -> Result<PathBuf, Report> {
    let directory = std::env::current_dir().map_err(|error| {
        let error = FileError::new("find the current directory", ".")(error);
        Report::of(&error, Some("change into a directory that exists".into()))
    })?;
    Ok(shareable_directory(&directory)?)
}

/// The name: the positional one, `--name`, or that of the current directory.
pub(super) fn name(context: &Context, given: Option<&SandboxName>) -> Result<SandboxName, Report> {
    if let Some(name) = given.or(context.settings.name.as_ref()) {
        return Ok(name.clone());
    }
    let workspace = workspace()?;
    Ok(lifecycle::name_for(&context.directories, &workspace)?)
}

/// The running sandbox of that name.
pub(super) fn running(context: &Context, given: Option<&SandboxName>) -> Result<Found, Report> {
    let name = name(context, given)?;
    lifecycle::find(&context.directories, &name)?.ok_or_else(|| {
        Report::new(
            format!("no sandbox named `{name}` is running"),
            Some(
                "`sandbox list` shows what runs; `sandbox --kvm` starts the one of this directory"
                    .into(),
            ),
        )
    })
}
