//! The template of a start: found, or built for the next one.

use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use sandbox_host::files;
use sandbox_host::hint::Hint;
use sandbox_host::process::lower_priority_to_idle;
use sandbox_qemu::program;
use sandbox_spec::{CpuCount, DiskSize, ImageReference, MemorySize, TemplateKey, TemplatePolicy};
use sandbox_store::template::{Begin, Expectations, Limits, Shape, Template};
use serde::{Deserialize, Serialize};

use super::{Hypervisor, Listener, image, prepare};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Stage};
use crate::host::Host;
use crate::options::StartOptions;
use crate::plan::{MachineShape, StartPlan};
use crate::role::{self, Role};
use crate::supervisor::TemplateTimes;
use crate::templates::{self, BuildRequest};

/// After a build in the background failed, none is begun for the same shape for this long.
const RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// A template to be built.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TemplateRequest {
    /// The start that would use it.
    pub options: StartOptions,
}

impl TemplateRequest {
    /// Requests the template that a start with these options restores.
    pub fn new(options: StartOptions) -> Self {
        Self { options }
    }
}

/// A template that was built, or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltTemplate {
    /// It was built.
    Built {
        /// Its key.
        key: TemplateKey,
        /// How long that took.
        times: TemplateTimes,
    },
    /// It was there already.
    Present {
        /// Its key.
        key: TemplateKey,
    },
}

/// A build in the background, on its way to the process that does it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BackgroundBuild {
    image: ImageReference,
    cpus: CpuCount,
    memory: MemorySize,
    disk: DiskSize,
    shares: usize,
    accelerator: sandbox_spec::Accelerator,
    ready_timeout: Duration,
    /// How much of the disk templates may take, in bytes.
    space_bytes: Option<u64>,
}

/// The template for a start. A store that cannot be read costs the warm start, not the sandbox.
pub(super) fn find(host: &Host, shape: &Shape, listener: &mut Listener) -> Option<Template> {
    let found = host.templates().find(&shape.key());
    found.unwrap_or_else(|error| {
        let reason = error.to_string();
        listener(&Event::TemplatesUnusable { reason });
        None
    })
}

/// What starts ask of templates. QEMU is not run for it: where its version is not remembered,
/// templates of any version are of use.
pub(crate) fn expectations(host: &Host) -> Result<Expectations, Error> {
    let version = program::remembered_version(host.search(&host.directories().state));
    let version = version.map(|version| version.to_string());
    Ok(templates::expectations(&host.images(), version)?)
}

impl Host {
    /// Builds the template that a start with these options restores; `None` if `cancel` was ready
    /// first.
    ///
    /// # Errors
    /// [`ErrorKind::Template`] and [`ErrorKind::Image`] where it, or its image, cannot be built,
    /// [`ErrorKind::Host`] where this QEMU cannot save guests, [`ErrorKind::InUse`] while another
    /// process builds it.
    pub async fn build_template(
        &self,
        request: TemplateRequest,
        mut listener: impl FnMut(&Event) + Send,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<Option<BuiltTemplate>, Error> {
        let options = request.options;
        let mut cancel = std::pin::pin!(cancel);
        let hypervisor = prepare::hypervisor(self, &options, &self.directories().state)?;
        check_version(&hypervisor)?;
        let reference = prepare::image(&options);
        let obtained = image::obtain(self, &reference, &mut listener, cancel.as_mut()).await?;
        let Some(image) = obtained else {
            return Ok(None);
        };
        let machine = prepare::machine(&options, options.shares.len());
        let build = Build {
            machine,
            image: image::boot_image(&image),
            hypervisor,
            ready_timeout: options.ready_timeout,
            limits: limits(options.template_space.map(|space| space.bytes())),
        };
        build.run(self, &mut listener, cancel).await
    }

    /// Builds an image of an embedded recipe anew, from this mirror of Debian's packages or the
    /// usual one; `None` if `cancel` was ready first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such recipe, [`ErrorKind::Image`] where the build
    /// fails.
    pub async fn build_image(
        &self,
        reference: &ImageReference,
        mirror: Option<String>,
        mut listener: impl FnMut(&Event) + Send,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<Option<sandbox_store::image::Image>, Error> {
        let cancel = std::pin::pin!(cancel);
        image::build(self, reference, mirror, &mut listener, cancel).await
    }
}

fn check_version(hypervisor: &Hypervisor) -> Result<(), Error> {
    let version = hypervisor.program.version;
    if version < templates::LEAST_QEMU {
        return Err(Error::new(
            ErrorKind::Host,
            format!("QEMU {version} cannot save guests as templates"),
            Some(format!("install QEMU {} or later", templates::LEAST_QEMU).into()),
        ));
    }
    Ok(())
}

fn limits(space_bytes: Option<u64>) -> Limits {
    space_bytes.map_or_else(Limits::default, Limits::of_space)
}

/// A build of one template.
struct Build {
    machine: MachineShape,
    image: crate::plan::BootImage,
    hypervisor: Hypervisor,
    ready_timeout: Option<Duration>,
    limits: Limits,
}

impl Build {
    async fn run(
        self,
        host: &Host,
        listener: &mut (dyn FnMut(&Event) + Send),
        cancel: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Option<BuiltTemplate>, Error> {
        let setup = prepare::host_setup(host, &self.hypervisor, &[])?;
        let version = self.hypervisor.program.version;
        let accelerator = setup.accelerator;
        let shape = templates::shape(self.machine, &self.image, version, accelerator);
        let store = host.templates();
        store.check_space(shape.memory_bytes)?;
        let build = match store.begin(shape)? {
            Begin::Building(build) => build,
            Begin::Busy => {
                return Err(Error::new(
                    ErrorKind::InUse,
                    "this template is being built already",
                    Some(Hint::run("template ls").then(" shows it")),
                ));
            }
            Begin::Exists(template) => {
                return Ok(Some(BuiltTemplate::Present { key: template.key }));
            }
        };
        if let Some(warning) = self.hypervisor.decision.warning {
            listener(&Event::Emulated(warning));
        }
        let request = BuildRequest {
            build,
            machine: self.machine,
            image: self.image,
            host: &setup,
            directories: host.directories(),
            ready_timeout: self
                .ready_timeout
                .unwrap_or_else(|| prepare::ready_timeout(&StartOptions::default(), accelerator)),
        };
        let building = templates::build(request, |stage| {
            listener(&Event::Stage(Stage::Template(stage)));
        });
        let (template, times) = tokio::select! {
            built = building => built?,
            () = cancel => return Ok(None),
        };
        let expectations = templates::expectations(&host.images(), Some(version.to_string()))?;
        store.evict(&self.limits, &template.key, &expectations)?;
        Ok(Some(BuiltTemplate::Built {
            key: template.key,
            times,
        }))
    }
}

/// Whether a build in the background has written down why it failed, and that is not long ago.
fn has_failed_lately(log: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(log) else {
        return false;
    };
    let age = metadata
        .modified()
        .map(|failed| SystemTime::now().duration_since(failed));
    metadata.len() > 0 && age.is_ok_and(|age| age.is_ok_and(|age| age < RETRY_AFTER))
}

/// Builds the template that a start would have liked to have, in a process of the installed program
/// that outlives this one. Whether it can be started or not, the sandbox runs.
pub(super) fn build_in_background(
    host: &Host,
    plan: &StartPlan,
    shape: &Shape,
    options: &StartOptions,
) {
    let spec = &plan.spec;
    if spec.templates != TemplatePolicy::Auto
        || has_failed_lately(&host.templates().log(&shape.key()))
    {
        return;
    }
    let Ok(program) = role::program(host) else {
        return;
    };
    let build = BackgroundBuild {
        image: spec.image.clone(),
        cpus: spec.cpus,
        memory: spec.memory,
        disk: spec.disk,
        shares: spec.shares.len(),
        accelerator: plan.accelerator,
        ready_timeout: spec.ready_timeout,
        space_bytes: options.template_space.map(|space| space.bytes()),
    };
    let role = Role::BuildTemplate {
        host: host.parts().clone(),
        build,
    };
    // It is nobody's child soon: this process ends before it.
    drop(role::start_in_background(&program, &role));
}

/// Does a [`BackgroundBuild`], yielding to everything else that runs. A failure is written to the
/// template's log, since nobody reads what is printed.
pub(crate) async fn run_in_role(host: &Host, build: BackgroundBuild) -> Result<(), Error> {
    lower_priority_to_idle();
    let options = StartOptions {
        image: Some(build.image),
        cpus: Some(build.cpus),
        memory: Some(build.memory),
        disk: Some(build.disk),
        accelerator: Some(match build.accelerator {
            sandbox_spec::Accelerator::Kvm => sandbox_spec::AcceleratorChoice::Kvm,
            sandbox_spec::Accelerator::Tcg => sandbox_spec::AcceleratorChoice::Tcg,
        }),
        ..StartOptions::default()
    };
    let hypervisor = prepare::hypervisor(host, &options, &host.directories().state)?;
    check_version(&hypervisor)?;
    // Nobody waits for an image to be built here.
    let Some(image) = host.images().open(&prepare::image(&options))? else {
        return Ok(());
    };
    let machine = prepare::machine(&options, build.shares);
    let image = image::boot_image(&image);
    let version = hypervisor.program.version;
    let accelerator = hypervisor.decision.accelerator;
    let key = templates::shape(machine, &image, version, accelerator).key();
    let build = Build {
        machine,
        image,
        hypervisor,
        ready_timeout: Some(build.ready_timeout),
        limits: limits(build.space_bytes),
    };
    let never = std::pin::pin!(std::future::pending());
    let built = build.run(host, &mut |_| {}, never).await;
    if let Err(error) = &built
        && error.kind() != ErrorKind::InUse
    {
        let log = host.templates().log(&key);
        files::write_private_volatile(&log, report(error).as_bytes())?;
    }
    built.map(drop)
}

/// An error with its causes and its log, for a file.
fn report(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    for cause in causes {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    for line in error.log_lines() {
        text.push_str(&format!("  | {line}\n"));
    }
    text
}
