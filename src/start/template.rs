//! The template of a start: finds it, or builds it for the next start.

use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use sandbox_host::files;
use sandbox_host::hint::Hint;
use sandbox_host::process::lower_priority_to_idle;
use sandbox_qemu::program::{self, QemuVersion};
use sandbox_spec::{
    Accelerator, CpuCount, DiskSize, ImageReference, MemorySize, TemplateKey, TemplatePolicy,
};
use sandbox_store::template::{Begin, Expectations, Limits, Shape, Template};
use serde::{Deserialize, Serialize};

use super::{Hypervisor, Listener, image, prepare, working_set};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Stage};
use crate::host::Host;
use crate::options::StartOptions;
use crate::plan::{BootImage, MachineShape, StartPlan};
use crate::role::{self, Role};
use crate::supervisor::{TemplateStage, TemplateTimes};
use crate::templates::{self, BuildRequest};

/// How long no background build of a shape starts after one has failed.
const RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// A request to build a template.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TemplateRequest {
    /// The options of a start that would restore the template.
    pub options: StartOptions,
}

impl TemplateRequest {
    /// Creates a request for the template that a start with these options restores.
    pub fn new(options: StartOptions) -> Self {
        Self { options }
    }
}

/// The result of a template build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuiltTemplate {
    /// The template's key.
    pub key: TemplateKey,
    /// The durations of the build; `None` if the template already existed.
    pub times: Option<TemplateTimes>,
}

/// A background build, as its process receives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BackgroundBuild {
    image: ImageReference,
    cpus: CpuCount,
    memory: MemorySize,
    disk: DiskSize,
    nested_virtualization: bool,
    shares: usize,
    accelerator: sandbox_spec::Accelerator,
    ready_timeout: Duration,
    /// The maximum disk space of all templates, in bytes.
    space_bytes: Option<u64>,
}

/// Returns the template for a start. An unreadable store only makes the start boot.
pub(super) fn find(host: &Host, shape: &Shape, listener: &mut Listener) -> Option<Template> {
    let found = host.templates().find(&shape.key());
    found.unwrap_or_else(|error| {
        let reason = error.to_string();
        listener(&Event::TemplatesUnusable { reason });
        None
    })
}

/// Returns the expectations of starts. Does not run QEMU: without a cached version, templates of
/// any version count as usable.
pub(crate) fn expectations(host: &Host) -> Result<Expectations, Error> {
    let version = program::remembered_version(host.search(&host.directories().state));
    let version = version.map(|version| version.to_string());
    Ok(templates::expectations(&host.images(), version)?)
}

impl Host {
    /// Builds the template that a start with these options restores. `None` if `cancel` was ready
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

    /// Builds an image of an embedded recipe again, from `mirror` or the default mirror of Debian's
    /// packages. `None` if `cancel` was ready first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the recipe does not exist, [`ErrorKind::Image`] where the
    /// build fails.
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
        mut cancel: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Option<BuiltTemplate>, Error> {
        let setup = prepare::host_setup(host, &self.hypervisor, &[])?;
        let version = self.hypervisor.program.version;
        let accelerator = setup.accelerator;
        let shape = stored_shape(self.machine, &self.image, version, accelerator);
        let store = host.templates();
        store.check_space(shape.memory_bytes)?;
        let build = match store.begin(shape)? {
            Begin::Building(build) => build,
            Begin::Busy => {
                return Err(Error::new(
                    ErrorKind::InUse,
                    "another process is already building this template",
                    Some(Hint::run("template ls").then(" shows it")),
                ));
            }
            Begin::Exists(template) => {
                return Ok(Some(BuiltTemplate {
                    key: template.key,
                    times: None,
                }));
            }
        };
        if let Some(warning) = self.hypervisor.decision.warning {
            listener(&Event::Emulated(warning));
        }
        let image = self.image.name.clone();
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
            () = cancel.as_mut() => return Ok(None),
        };
        if accelerator == Accelerator::Kvm {
            listener(&Event::Stage(Stage::Template(TemplateStage::Recording)));
            tokio::select! {
                () = working_set::record(host, &template, self.machine, &image) => {}
                () = cancel => return Ok(None),
            }
        }
        let expectations = templates::expectations(&host.images(), Some(version.to_string()))?;
        store.evict(&self.limits, &template.key, &expectations)?;
        Ok(Some(BuiltTemplate {
            key: template.key,
            times: Some(times),
        }))
    }
}

/// Returns whether a background build has written its failure to the log recently.
fn has_failed_recently(log: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(log) else {
        return false;
    };
    let age = metadata
        .modified()
        .map(|failed| SystemTime::now().duration_since(failed));
    metadata.len() > 0 && age.is_ok_and(|age| age.is_ok_and(|age| age < RETRY_AFTER))
}

/// Builds the missing template of a start, in a process of the installed program that outlives this
/// one. A failure does not affect the sandbox.
pub(super) fn build_in_background(
    host: &Host,
    plan: &StartPlan,
    shape: &Shape,
    options: &StartOptions,
) {
    let spec = &plan.spec;
    if spec.templates != TemplatePolicy::Auto
        || has_failed_recently(&host.templates().log(&shape.key()))
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
        nested_virtualization: spec.nested_virtualization,
        shares: spec.shares.len(),
        accelerator: plan.accelerator,
        ready_timeout: spec.ready_timeout,
        space_bytes: options.template_space.map(|space| space.bytes()),
    };
    let role = Role::BuildTemplate {
        host: host.parts().clone(),
        build: Box::new(build),
    };
    // Init adopts it, since this process ends first.
    drop(role::start_in_background(&program, &role));
}

/// Runs a [`BackgroundBuild`] with the lowest priority. Writes a failure to the template's log,
/// since the process's output is discarded.
pub(crate) async fn run_in_role(host: &Host, build: BackgroundBuild) -> Result<(), Error> {
    lower_priority_to_idle();
    let options = StartOptions {
        image: Some(build.image),
        cpus: Some(build.cpus),
        memory: Some(build.memory),
        disk: Some(build.disk),
        nested_virtualization: Some(build.nested_virtualization),
        accelerator: Some(match build.accelerator {
            Accelerator::Kvm => sandbox_spec::AcceleratorChoice::Kvm,
            Accelerator::Tcg => sandbox_spec::AcceleratorChoice::Tcg,
        }),
        ..StartOptions::default()
    };
    let hypervisor = prepare::hypervisor(host, &options, &host.directories().state)?;
    check_version(&hypervisor)?;
    // A background build uses stored images only.
    let Some(image) = host.images().open(&prepare::image(&options))? else {
        return Ok(());
    };
    let machine = prepare::machine(&options, build.shares);
    let image = image::boot_image(&image);
    let version = hypervisor.program.version;
    let accelerator = hypervisor.decision.accelerator;
    let key = stored_shape(machine, &image, version, accelerator).key();
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

fn stored_shape(
    machine: MachineShape,
    image: &BootImage,
    version: QemuVersion,
    accelerator: Accelerator,
) -> Shape {
    templates::shape(machine, image, version, accelerator)
        .expect("a build has a stored image, since its image comes from the store")
}

/// Returns an error with its causes and its log lines, as text for a file.
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
