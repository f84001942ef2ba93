//! The templates of this program: their shape, their build, and the expectations of starts.

use sandbox_host::hint::Hint;
use std::time::Duration;

use super::registry::{self, RegistryError};
use super::supervisor::{self, SupervisorError, TemplateStage, TemplateTimes};
use crate::guest::credential::TooLarge;
use crate::plan::{
    BootImage, HostSetup, MachineShape, TemplateFiles, TemplatePlan, TemplateTarget,
};
use crate::state::StateLayout;
use sandbox_host::directories::Directories;
use sandbox_host::files::FileError;
use sandbox_qemu::accelerator::host_processor;
use sandbox_qemu::program::QemuVersion;
use sandbox_spec::Accelerator;
use sandbox_store::image::{GUEST_AGENT_SHA256, ImageError, ImageStore};
use sandbox_store::template::{Build, Expectations, Shape, Template, TemplateError, TemplateStore};

/// Returns the value of [`Shape::program`](sandbox_store::template::Shape::program): the version of
/// this library and the digest of its guest agent. So host and guest of a template always come from
/// one build.
pub fn program() -> String {
    format!("{} {GUEST_AGENT_SHA256}", env!("CARGO_PKG_VERSION"))
}

/// Returns the expectations of starts with a QEMU of this version.
///
/// # Errors
/// Fails if the image store cannot be listed.
pub(crate) fn expectations(
    images: &ImageStore,
    qemu_version: Option<String>,
) -> Result<Expectations, ImageError> {
    let mut image_digests = Some(std::collections::BTreeSet::new());
    for entry in images.list()? {
        // The digest of an unreadable image is unknown, so any template may be in use.
        match (entry.image, &mut image_digests) {
            (Ok(image), Some(digests)) => {
                digests.insert(image.metadata.digest);
            }
            _ => image_digests = None,
        }
    }
    Ok(Expectations {
        image_digests,
        program: program(),
        qemu_version,
    })
}

/// The minimum version of QEMU that saves and restores templates.
pub(crate) use sandbox_qemu::migration::LEAST_VERSION as LEAST_QEMU;

/// Returns the shape of the template for a machine with this image; `None` if the image is not
/// stored.
pub(crate) fn shape(
    machine: MachineShape,
    image: &BootImage,
    qemu: QemuVersion,
    accelerator: Accelerator,
) -> Option<Shape> {
    Some(Shape {
        image_digest: image.digest?,
        image_name: image.name.clone(),
        kernel_command_line: image.command_line.clone(),
        qemu_version: qemu.to_string(),
        hardware: machine.hardware(accelerator),
        cpus: machine.cpus.get(),
        memory_bytes: machine.memory.bytes(),
        disk_bytes: machine.disk.bytes(),
        share_devices: u32::try_from(machine.share_devices).unwrap_or(u32::MAX),
        accelerator,
        host_processor: match accelerator {
            Accelerator::Kvm => host_processor(),
            Accelerator::Tcg => String::new(),
        },
        program: program(),
    })
}

/// Returns the files of a template for a start.
pub(crate) fn files(store: TemplateStore, template: &Template) -> TemplateFiles {
    TemplateFiles {
        store,
        key: template.key,
        ram: template.directory.ram(),
        state: template.directory.state(),
        disk: template.directory.disk(),
        working_set: template.directory.working_set(),
        disk_bytes: template.metadata.disk_bytes,
        share_devices: template.metadata.shape.share_devices as usize,
    }
}

/// A failure of a template build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] TemplateError),
    /// A file could not be created.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory of the running guest could not be locked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The common seed does not fit.
    #[error(transparent)]
    Seed(#[from] TooLarge),
    /// The guest could not be booted or saved.
    #[error("could not save the guest for the template")]
    Guest {
        /// The cause.
        #[source]
        source: Box<SupervisorError>,
        /// The last lines of the guest's console, or of QEMU's output.
        last_lines: Vec<String>,
    },
}

impl BuildError {
    /// Returns the last lines of the guest's console, or of QEMU's output.
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Guest { last_lines, .. } => last_lines,
            _ => &[],
        }
    }

    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Store(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Guest { source, .. } => source.hint(),
            Self::Seed(_) => None,
        }
    }
}

/// The input of a template build.
pub(crate) struct BuildRequest<'a> {
    /// The unfinished template in the store.
    pub build: Build,
    /// The machine.
    pub machine: MachineShape,
    /// The image to boot.
    pub image: BootImage,
    /// The host.
    pub host: &'a HostSetup,
    /// The directories of the running guest's files.
    pub directories: &'a Directories,
    /// How long the guest may take to start completely.
    pub ready_timeout: Duration,
}

/// Boots a guest, saves it and stores the template. Removes all temporary files.
///
/// # Errors
/// Fails if a step fails. The store then contains no template.
pub(crate) async fn build(
    request: BuildRequest<'_>,
    listener: impl FnMut(TemplateStage),
) -> Result<(Template, TemplateTimes), BuildError> {
    let BuildRequest {
        build,
        machine,
        image,
        host,
        directories,
        ready_timeout,
    } = request;
    let place = directories.building().join(build.key().to_string());
    let layout = StateLayout::at(place, directories);
    let lock = registry::occupy(&layout)?;
    let target = TemplateTarget {
        ram: build.directory().ram(),
        state: build.directory().state(),
        disk: build.directory().disk(),
    };
    let plan = TemplatePlan::new(machine, layout, target, image, host)?;
    let made = supervisor::make_template(&plan, ready_timeout, listener)
        .await
        .map_err(|source| BuildError::Guest {
            last_lines: supervisor::log_lines(&source, &plan.layout),
            source: Box::new(source),
        });
    registry::collect(&plan.layout, lock);
    let times = made?;
    Ok((build.commit(machine.disk.bytes())?, times))
}
