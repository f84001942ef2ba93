//! `sandbox image`: build, list, inspect, remove; and the build that a first
//! start needs.

use super::context::Context;
use super::space::expectations;
use super::{ExitStatus, Outcome};
use crate::cli::ImageCommand;
use crate::output::{Report, Table};
use sandbox::lifecycle;
use sandbox_host::notices::{Notice, Notices};
use sandbox_spec::ImageReference;
use sandbox_store::image::build::{BuildOptions, BuildProgress, CancelFlag};
use sandbox_store::image::{Image, Recipe, build};
use sandbox_store::template::{EntryState, Obsolescence};

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

/// The stored image, verified; built first if it is not there. `None` if the
/// user interrupted that.
pub(super) async fn obtain(
    context: &Context,
    reference: &ImageReference,
    notices: &mut Notices,
) -> Result<Option<Image>, Report> {
    if let Some(image) = context.images().open(reference)? {
        image.verify()?;
        tell_if_outdated(context, reference, &image);
        return Ok(Some(image));
    }
    Recipe::embedded(reference)?;
    context.printer.notice(format_args!(
        "the image `{reference}` is not stored yet: building it from its recipe, once, in some minutes"
    ));
    build(context, reference, None, notices).await
}

/// An image stays as it was built; says so where this program's recipe would
/// make another one.
fn tell_if_outdated(context: &Context, reference: &ImageReference, image: &Image) {
    let outdated = Recipe::embedded(reference)
        .is_ok_and(|recipe| recipe.hash() != image.metadata.content.recipe_hash);
    if outdated {
        context.printer.notice(format_args!(
            "the image `{reference}` was built from another version of its recipe; `sandbox image build {reference}` renews it"
        ));
    }
}

/// Builds in a thread of its own, so that Ctrl-C can reach it.
async fn build(
    context: &Context,
    reference: &ImageReference,
    mirror: Option<String>,
    notices: &mut Notices,
) -> Result<Option<Image>, Report> {
    let recipe = Recipe::embedded(reference)?;
    let options = BuildOptions {
        mirror,
        ..BuildOptions::default()
    };
    let store = context.images();
    let cancel = CancelFlag::default();
    let (steps_sender, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let (result_sender, mut result) = tokio::sync::oneshot::channel();
    let cancelled = cancel.clone();
    let builder = std::thread::spawn(move || {
        let mut tell = |step| {
            let _ = steps_sender.send(step);
        };
        let built = build::build(&recipe, &options, &store, &mut tell, &cancelled);
        drop(result_sender.send(built));
    });
    let mut progress = context.printer.progress();
    let built = loop {
        tokio::select! {
            Some(step) = steps.recv() => show(&mut progress, step),
            built = &mut result => break built,
            notice = notices.next() => {
                if let Notice::Termination(_) = notice {
                    progress.step("stopping the build");
                    cancel.cancel();
                }
            }
        }
    };
    // The builder's programs are bound to its thread.
    drop(builder.join());
    progress.finish();
    match built {
        Ok(Err(_)) if cancel.is_cancelled() => Ok(None),
        Ok(built) => Ok(Some(built?)),
        Err(_) => Err(Report::new("the build ended without a result", None)),
    }
}

fn show(progress: &mut crate::output::Progress, step: BuildProgress) {
    match step {
        BuildProgress::WaitingForOtherBuild => {
            progress.step("waiting for another build of this image");
        }
        BuildProgress::Resolving => progress.step("reading package lists"),
        BuildProgress::Downloading {
            done_bytes,
            total_bytes,
        } => {
            progress.step("downloading packages");
            progress.detail(&format!(
                "{} of {} MB",
                done_bytes / 1_000_000,
                total_bytes / 1_000_000
            ));
        }
        BuildProgress::Installing { done, total } => {
            progress.step("installing packages");
            progress.detail(&format!("{done} of {total}"));
        }
        BuildProgress::Customizing => progress.step("customizing the system"),
        BuildProgress::WritingDisk => progress.step("writing the file system"),
        BuildProgress::ReadingKernel => progress.step("reading the kernel"),
        BuildProgress::ConvertingDisk => progress.step("converting the disk"),
        BuildProgress::Storing => progress.step("storing the image"),
    }
}

fn list(context: &Context, json: bool) -> Outcome {
    let entries = context.images().list()?;
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
        .images()
        .open(reference)?
        .ok_or_else(|| absent(reference))
}

fn absent(reference: &ImageReference) -> Report {
    Report::new(
        format!("no image `{reference}` is stored"),
        Some("`sandbox image ls` shows what is; `sandbox image build NAME` builds one".into()),
    )
}

fn inspect(context: &Context, reference: &ImageReference) -> Outcome {
    context
        .printer
        .json(&stored(context, reference)?.metadata)?;
    Ok(ExitStatus::SUCCESS)
}

fn remove(context: &Context, references: &[ImageReference]) -> Outcome {
    let running = lifecycle::list(&context.directories)?;
    for reference in references {
        let user = running.iter().find(|found| {
            found
                .record()
                .is_some_and(|record| record.image == reference.as_str())
        });
        if let Some(user) = user {
            return Err(Report::new(
                format!(
                    "the image `{reference}` is in use by the sandbox `{}`",
                    user.name
                ),
                Some(format!("stop it first: `sandbox stop {}`", user.name).into()),
            ));
        }
        if !context.images().remove(reference)? {
            return Err(absent(reference));
        }
        context
            .printer
            .notice(format_args!("removed `{reference}`"));
        remove_templates(context)?;
    }
    Ok(ExitStatus::SUCCESS)
}

/// Removes templates whose image is gone: they lie on its disk.
fn remove_templates(context: &Context) -> Result<(), Report> {
    let store = context.templates();
    let expectations = expectations(context)?;
    let entries = store.survey()?.entries;
    let without_image = entries.iter().filter(|entry| {
        matches!(&entry.state, EntryState::Ready(metadata)
            if expectations.obsolescence(&metadata.shape) == Some(Obsolescence::Image))
    });
    for entry in without_image {
        if store.discard(&entry.key)?.is_some() {
            context.printer.notice(format_args!(
                "removed the template `{}`, which lay on it",
                entry.key
            ));
        }
    }
    Ok(())
}
