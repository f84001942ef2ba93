//! `sandbox image`: build, list, inspect, remove.

use sandbox::Event;
use sandbox_host::notices::Notices;
use sandbox_spec::ImageReference;
use sandbox_store::image::Image;
use sandbox_store::template::{EntryState, Obsolescence};

use super::context::Context;
use super::start::{Reporter, terminated};
use super::{ExitStatus, Outcome};
use crate::cli::ImageCommand;
use crate::output::{Report, Table};

pub(super) async fn run(context: &Context, command: ImageCommand) -> Outcome {
    match command {
        ImageCommand::Build { recipe, mirror } => {
            let mut notices = Notices::of_process()?;
            match build(context, &recipe, mirror, &mut notices).await? {
                Some(image) => {
                    let digest = image.metadata.digest;
                    context
                        .printer
                        .notice(format_args!("built `{recipe}`, {digest}"));
                    Ok(ExitStatus::SUCCESS)
                }
                None => Ok(ExitStatus::INTERRUPTED),
            }
        }
        ImageCommand::Ls(arguments) => list(context, arguments.json),
        ImageCommand::Inspect { image_name } => inspect(context, &image_name),
        ImageCommand::Rm { images } => remove(context, &images),
    }
}

/// Builds an image. Returns `None` if the user interrupts the build.
async fn build(
    context: &Context,
    reference: &ImageReference,
    mirror: Option<String>,
    notices: &mut Notices,
) -> Result<Option<Image>, Report> {
    let reporter = Reporter::new(context);
    let show = |event: &Event| reporter.show(event);
    let cancel = terminated(notices);
    let built = context
        .host
        .build_image(reference, mirror, show, cancel)
        .await;
    reporter.finish();
    Ok(built?)
}

fn list(context: &Context, json: bool) -> Outcome {
    let entries = context.host.images().list()?;
    if json {
        let stored: Vec<_> = entries
            .iter()
            .filter_map(|entry| entry.image.as_ref().ok())
            .map(|image| &image.metadata)
            .collect();
        context.printer.json(&stored)?;
        return Ok(ExitStatus::SUCCESS);
    }
    let mut table = Table::new(&["name", "digest", "suite", "size", "created"]);
    for entry in &entries {
        let row = match &entry.image {
            Ok(image) => {
                let content = &image.metadata.content;
                let files = &content.files;
                let bytes = files.disk.file.size_bytes
                    + files.kernel.file.size_bytes
                    + files.modules.size_bytes;
                [
                    entry.reference.to_string(),
                    image.metadata.digest.hex().chars().take(12).collect(),
                    content.suite.clone(),
                    format!("{} MB", bytes / 1_000_000),
                    content.created.strftime("%Y-%m-%d %H:%M").to_string(),
                ]
            }
            Err(error) => {
                context.printer.warning(error);
                [
                    entry.reference.to_string(),
                    "unusable".into(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]
            }
        };
        table.row(row);
    }
    context.printer.data(table)?;
    Ok(ExitStatus::SUCCESS)
}

fn stored(context: &Context, reference: &ImageReference) -> Result<Image, Report> {
    context
        .host
        .images()
        .open(reference)?
        .ok_or_else(|| absent(reference))
}

fn absent(reference: &ImageReference) -> Report {
    Report::new(
        format!("image `{reference}` not found"),
        Some("run `sandbox image ls` to list the images, or `sandbox image build NAME`".into()),
    )
}

fn inspect(context: &Context, reference: &ImageReference) -> Outcome {
    context
        .printer
        .json(&stored(context, reference)?.metadata)?;
    Ok(ExitStatus::SUCCESS)
}

fn remove(context: &Context, references: &[ImageReference]) -> Outcome {
    let running = context.host.sandboxes()?;
    for reference in references {
        let user = running.iter().find(|found| {
            found
                .record()
                .is_some_and(|record| record.image == *reference)
        });
        if let Some(user) = user {
            return Err(Report::new(
                format!(
                    "image `{reference}` is in use by the sandbox `{}`",
                    user.name
                ),
                Some(format!("run `sandbox stop {}` first", user.name).into()),
            ));
        }
        if !context.host.images().remove(reference)? {
            return Err(absent(reference));
        }
        context
            .printer
            .notice(format_args!("removed `{reference}`"));
        remove_templates(context)?;
    }
    Ok(ExitStatus::SUCCESS)
}

/// Removes the templates of removed images, since their overlays need the disk of the image.
fn remove_templates(context: &Context) -> Result<(), Report> {
    let store = context.host.templates();
    let expectations = context.host.template_expectations()?;
    let entries = store.survey()?.entries;
    let without_image = entries.iter().filter(|entry| {
        matches!(&entry.state, EntryState::Ready(metadata)
            if expectations.obsolescence(&metadata.shape) == Some(Obsolescence::Image))
    });
    for entry in without_image {
        if store.discard(&entry.key)?.is_some() {
            context
                .printer
                .notice(format_args!("removed its template `{}`", entry.key));
        }
    }
    Ok(())
}
