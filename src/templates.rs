//! Templates as this program makes and uses them: their shape, their making,
//! and what starts ask for.

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

/// [`Shape::program`](sandbox_store::template::Shape::program) of this program: its version and the
/// guest agent in it, so that host and guest of a template are always of one build.
pub fn program() -> String {
    format!("{} {GUEST_AGENT_SHA256}", env!("CARGO_PKG_VERSION"))
}

/// What starts of this program ask for, with the QEMU of this version.
///
/// # Errors
///
/// The image store cannot be listed.
pub(crate) fn expectations(
    images: &ImageStore,
    qemu_version: Option<String>,
) -> Result<Expectations, ImageError> {
    let mut image_digests = Some(std::collections::BTreeSet::new());
    for entry in images.list()? {
        // What an unreadable image is, nobody knows: templates on it may be of use.
        match (entry.image, &mut image_digests) {
            (Ok(image), Some(digests)) => {
                digests.insert(image.metadata.digest.to_string());
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

/// The least QEMU that saves and restores as templates need it.
pub(crate) use sandbox_qemu::migration::LEAST_VERSION as LEAST_QEMU;

/// The template for a machine with this image.
pub(crate) fn shape(
    machine: MachineShape,
    image: &BootImage,
    qemu: QemuVersion,
    accelerator: Accelerator,
) -> Shape {
    Shape {
        image_digest: image.digest.clone(),
        image_name: image.name.clone(),
        kernel_command_line: image.command_line.clone(),
        qemu_version: qemu.to_string(),
        hardware: machine.hardware(accelerator),
        cpus: machine.cpus.get(),
        memory_bytes: machine.memory.bytes(),
        disk_bytes: machine.disk.bytes(),
        share_devices: u32::try_from(machine.share_devices).unwrap_or(u32::MAX),
        accelerator: accelerator.to_string(),
        host_processor: match accelerator {
            Accelerator::Kvm => host_processor(),
            Accelerator::Tcg => String::new(),
        },
        program: program(),
    }
}

/// A template's files as a start uses them.
pub(crate) fn files(store: TemplateStore, template: &Template) -> TemplateFiles {
    TemplateFiles {
        store,
        key: template.key,
        ram: template.directory.ram(),
        state: template.directory.state(),
        disk: template.directory.disk(),
        disk_bytes: template.metadata.disk_bytes,
        share_devices: template.metadata.shape.share_devices as usize,
    }
}

/// Why a template was not made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] TemplateError),
    /// A file could not be made.
    #[error(transparent)]
    File(#[from] FileError),
    /// The place where the guest runs could not be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The common seed does not fit.
    #[error(transparent)]
    Seed(#[from] TooLarge),
    /// The guest could not be booted or saved.
    #[error("the guest for the template could not be saved")]
    Guest {
        /// What went wrong.
        #[source]
        source: Box<SupervisorError>,
        /// The last lines of its console, or of QEMU's own output.
        last_lines: Vec<String>,
    },
}

impl BuildError {
    /// The last lines of the guest's console, or of QEMU's own output.
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Guest { last_lines, .. } => last_lines,
            _ => &[],
        }
    }

    /// What the user can do about it.
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

/// What a template is made of.
pub(crate) struct BuildRequest<'a> {
    /// Its place in the store.
    pub build: Build,
    /// The machine.
    pub machine: MachineShape,
    /// The image to boot.
    pub image: BootImage,
    /// The host.
    pub host: &'a HostSetup,
    /// Where the running guest's files go.
    pub directories: &'a Directories,
    /// How long the guest may take until all of it has started.
    pub ready_timeout: Duration,
}

/// Boots a guest, saves it, and stores the template. Nothing else is left.
///
/// # Errors
/// When any of that fails; then nothing is stored.
pub(crate) async fn build(
    request: BuildRequest<'_>,
    tell: impl FnMut(TemplateStage),
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
    let made = supervisor::make_template(&plan, ready_timeout, tell)
        .await
        .map_err(|source| BuildError::Guest {
            last_lines: supervisor::last_log_lines(&source, &plan.layout),
            source: Box::new(source),
        });
    registry::collect(&plan.layout, lock);
    let times = made?;
    Ok((build.commit(machine.disk.bytes())?, times))
}
