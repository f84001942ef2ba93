//! The image of a start: verified if it is stored, built otherwise.

use std::pin::Pin;

use sandbox_spec::ImageReference;
use sandbox_store::image::build::{self, BuildOptions, CancelFlag};
use sandbox_store::image::{Image, Recipe};

use crate::error::{Error, ErrorKind};
use crate::event::{Event, Stage};
use crate::host::Host;
use crate::plan::BootImage;

/// Returns the stored image after verifying it, or builds it. `None` if the build was cancelled.
pub(crate) async fn obtain(
    host: &Host,
    reference: &ImageReference,
    listener: &mut (dyn FnMut(&Event) + Send),
    cancel: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Option<Image>, Error> {
    if let Some(image) = host.images().open(reference)? {
        image.verify()?;
        let is_outdated = Recipe::embedded(reference)
            .is_ok_and(|recipe| recipe.hash() != image.metadata.content.recipe_hash);
        if is_outdated {
            let image = reference.clone();
            listener(&Event::ImageOutdated { image });
        }
        return Ok(Some(image));
    }
    Recipe::embedded(reference)?;
    let image = reference.clone();
    listener(&Event::ImageMissing { image });
    build(host, reference, None, listener, cancel).await
}

/// Builds an image in a separate thread. `None` if the build was cancelled.
pub(crate) async fn build(
    host: &Host,
    reference: &ImageReference,
    mirror: Option<String>,
    listener: &mut (dyn FnMut(&Event) + Send),
    mut cancel: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Option<Image>, Error> {
    let recipe = Recipe::embedded(reference)?;
    let options = BuildOptions {
        mirror,
        ..BuildOptions::default()
    };
    let store = host.images();
    let flag = CancelOnDrop(CancelFlag::default());
    let (steps_sender, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let (result_sender, mut result) = tokio::sync::oneshot::channel();
    let cancelled = flag.0.clone();
    let builder = std::thread::spawn(move || {
        let mut report = |step| {
            let _ = steps_sender.send(step);
        };
        let built = build::build(&recipe, &options, &store, &mut report, &cancelled);
        drop(result_sender.send(built));
    });
    let mut is_cancelled = false;
    let built = loop {
        tokio::select! {
            Some(step) = steps.recv() => listener(&Event::Stage(Stage::Image(step))),
            built = &mut result => break built,
            () = cancel.as_mut(), if !is_cancelled => {
                is_cancelled = true;
                listener(&Event::Stage(Stage::Stopping));
                flag.0.cancel();
            }
        }
    };
    // The builder's child processes end with its thread.
    drop(builder.join());
    match built {
        Ok(Err(_)) if is_cancelled => Ok(None),
        Ok(built) => Ok(Some(built?)),
        Err(_) => Err(Error::new(
            ErrorKind::Image,
            "the image build ended without a result",
            None,
        )),
    }
}

/// Cancels the build when its caller drops the future.
struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Returns the files of a stored image.
pub(crate) fn boot_image(image: &Image) -> BootImage {
    let content = &image.metadata.content;
    BootImage {
        name: image.metadata.name.clone(),
        digest: Some(image.metadata.digest),
        disk: image.disk.clone(),
        disk_bytes: content.files.disk.virtual_size_bytes,
        kernel: image.kernel.clone(),
        modules: image.modules.clone(),
        command_line: content.command_line.clone(),
    }
}

/// Returns placeholders for the files of an image that is not stored but can be built.
pub(super) fn unknown(host: &Host, reference: &ImageReference) -> Result<BootImage, Error> {
    Recipe::embedded(reference)?;
    let blobs = host.directories().images().join("blobs/sha256");
    Ok(BootImage {
        name: reference.clone(),
        digest: None,
        disk: blobs.join("DISK"),
        disk_bytes: 0,
        kernel: blobs.join("KERNEL"),
        modules: blobs.join("MODULES"),
        command_line: "root=/dev/vda".into(),
    })
}
