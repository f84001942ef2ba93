//! The preparation of a start: QEMU, accelerator, specification, keys and plan.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox_gateway::interception::AuthorityParts;
use sandbox_host::files::FileError;
use sandbox_host::hint::Hint;
use sandbox_qemu::accelerator::{self, Decision};
use sandbox_qemu::program::{self, QemuProgram};
use sandbox_spec::domain::DomainPattern;
use sandbox_spec::policy::Policy;
use sandbox_spec::secret::{SecretError, SecretRequest, SecretSource, SecretSpec};
use sandbox_spec::{
    Accelerator, CpuCount, DiskSize, ImageReference, MemorySize, SandboxName, TemplatePolicy,
};
use sandbox_store::template::{Shape, Template};

use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::guest::cloud_config;
use crate::host::Host;
use crate::network::NetworkSpec;
use crate::options::StartOptions;
use crate::plan::{BootImage, HostSetup, MachineShape, StartPlan};
use crate::spec::{HostCapacity, Lifetime, SandboxSpec, shareable_directory};
use crate::ssh::keys::Keys;
use crate::state::StateLayout;
use crate::templates;

/// The default base image.
const IMAGE: &str = "debian-13";
/// The default number of processors.
const CPUS: &str = "2";
/// The default memory size.
const MEMORY: &str = "2G";
/// The default size of the root disk.
const DISK: &str = "20G";

/// The default time for a guest to become ready: about ten times the usual time.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// The default time for an emulated guest, on a busy host.
const READY_TIMEOUT_EMULATED: Duration = Duration::from_secs(600);

/// QEMU and its accelerator.
pub(crate) struct Hypervisor {
    pub(crate) program: QemuProgram,
    pub(crate) decision: Decision,
}

/// The request for a sandbox.
pub(crate) struct StartRequest<'a> {
    pub(crate) name: SandboxName,
    /// The workspace's canonical path.
    pub(crate) workspace: Option<&'a Path>,
    pub(crate) options: &'a StartOptions,
    pub(crate) lifetime: Lifetime,
    /// The whole allowlist of proxy mode; `None` for the stored one.
    pub(crate) allowlist: Option<&'a [DomainPattern]>,
    /// The sandbox whose stored allowlist is used; `None` for this sandbox's own.
    pub(crate) allowlist_of: Option<SandboxName>,
    /// Secrets with values, besides those of the options.
    pub(crate) secrets: &'a [SecretSpec],
    pub(crate) variables: fn(&str) -> Option<OsString>,
}

/// A planned start.
#[non_exhaustive]
pub struct Planned {
    /// The plan.
    pub plan: StartPlan,
    /// Whether the image is stored. Otherwise, the paths of its files are placeholders.
    pub is_image_stored: bool,
    /// The events that a start would report.
    pub events: Vec<Event>,
}

fn default<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the defaults are valid")
}

/// Returns the image of a start.
pub(crate) fn image(options: &StartOptions) -> ImageReference {
    options.image.clone().unwrap_or_else(|| default(IMAGE))
}

/// Returns the machine of a template for a start.
pub(crate) fn machine(options: &StartOptions, shares: usize) -> MachineShape {
    MachineShape::fitting(
        cpus(options),
        memory(options),
        disk(options),
        options.nested_virtualization.unwrap_or_default(),
        shares,
    )
}

fn cpus(options: &StartOptions) -> CpuCount {
    options.cpus.unwrap_or_else(|| default(CPUS))
}

fn memory(options: &StartOptions) -> MemorySize {
    options.memory.unwrap_or_else(|| default(MEMORY))
}

fn disk(options: &StartOptions) -> DiskSize {
    options.disk.unwrap_or_else(|| default(DISK))
}

/// Finds QEMU and an accelerator, and caches the results in `cache_directory`.
pub(crate) fn hypervisor(
    host: &Host,
    options: &StartOptions,
    cache_directory: &Path,
) -> Result<Hypervisor, Error> {
    let program = program::locate(host.search(cache_directory))?;
    let choice = options.accelerator.unwrap_or_default();
    let decision = accelerator::select(choice, cache_directory)?;
    if options.nested_virtualization == Some(true) {
        accelerator::check_nested_virtualization(decision.accelerator)?;
    }
    Ok(Hypervisor { program, decision })
}

/// Returns the specification of the request, checked against this host.
pub(crate) fn specification(
    host: &Host,
    request: &StartRequest<'_>,
    accelerator: Accelerator,
    listener: &mut dyn FnMut(&Event),
) -> Result<SandboxSpec, Error> {
    let options = request.options;
    let shares = options
        .shares
        .iter()
        .map(|share| {
            let mut share = share.clone();
            share.host = shareable_directory(&expand_home(host, &share.host))?;
            Ok(share)
        })
        .collect::<Result<_, Error>>()?;
    let cloud_config = match &options.cloud_init {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let error = FileError::new("read the cloud-config", path)(error);
                let hint = Hint::text("give a text file to ").setting_name("cloud-init");
                Error::new(ErrorKind::InvalidInput, error, Some(hint))
            })?;
            let config = cloud_config::parse(&text)?;
            for part in cloud_config::ignored_parts(&config) {
                listener(&Event::CloudConfigIgnored { part });
            }
            Some(config)
        }
        None => None,
    };
    let spec = SandboxSpec {
        name: request.name.clone(),
        workspace: request.workspace.map(Path::to_path_buf),
        image: image(options),
        cpus: cpus(options),
        memory: memory(options),
        disk: disk(options),
        shares,
        share_mode: options.share_mode.unwrap_or_default(),
        nested_virtualization: options.nested_virtualization.unwrap_or_default(),
        cloud_config,
        ready_timeout: ready_timeout(options, accelerator),
        templates: options.templates.unwrap_or_default(),
        lifetime: request.lifetime,
        network: network(host, request)?,
    };
    spec.check(HostCapacity::of_this_host(), &host.directories().state)?;
    Ok(spec)
}

/// Returns the network of the request, with the values of its secrets.
fn network(host: &Host, request: &StartRequest<'_>) -> Result<NetworkSpec, Error> {
    let options = request.options;
    let resolve = |secret: &SecretRequest| {
        let mut secret = secret.clone();
        if let SecretSource::File(path) = &mut secret.source {
            *path = expand_home(host, path);
        }
        secret.resolve(|name| (request.variables)(name))
    };
    let mut secrets = options
        .secrets
        .iter()
        .chain(&options.secret_files)
        .map(resolve)
        .collect::<Result<Vec<_>, SecretError>>()?;
    secrets.extend_from_slice(request.secrets);
    let authority = match &secrets[..] {
        [] => None,
        secrets => Some(AuthorityParts::generate(secrets)?),
    };
    let owner = request.allowlist_of.as_ref().unwrap_or(&request.name);
    Ok(NetworkSpec {
        proxy_directory: host.directories().proxy(owner.as_str()),
        authority,
        policy: Policy {
            preset: options.network.unwrap_or_default(),
            rules: options.net_rules.clone(),
        },
        proxy: options.proxy.unwrap_or_default(),
        allowlist: request.allowlist.map(<[_]>::to_vec),
        published: options.publish.clone(),
        dns: options.dns,
        max_connections: options.max_connections.unwrap_or_default(),
        bandwidth: options.bandwidth,
        secrets,
    })
}

/// Expands `~/…`, which a shell does not expand after an option's name.
fn expand_home(host: &Host, path: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => host.directories().home.join(rest),
        Err(_) => path.into(),
    }
}

/// Returns how long a guest may take to become ready.
pub(crate) fn ready_timeout(options: &StartOptions, accelerator: Accelerator) -> Duration {
    options.ready_timeout.unwrap_or(match accelerator {
        Accelerator::Kvm => READY_TIMEOUT,
        Accelerator::Tcg => READY_TIMEOUT_EMULATED,
    })
}

/// Returns the properties of the host that a plan depends on.
pub(crate) fn host_setup(
    host: &Host,
    hypervisor: &Hypervisor,
    authorized_keys: &[String],
) -> Result<HostSetup, Error> {
    Ok(HostSetup {
        qemu: hypervisor.program.path.clone(),
        accelerator: hypervisor.decision.accelerator,
        home: host.directories().home.clone(),
        machine_id: machine_id()?,
        agent_keys: authorized_keys.to_vec(),
    })
}

/// Returns the shape of the template for a sandbox; `None` if templates are off, QEMU does not
/// support them, or the image is not stored.
pub(crate) fn template_shape(
    spec: &SandboxSpec,
    image: &BootImage,
    hypervisor: &Hypervisor,
) -> Option<Shape> {
    let version = hypervisor.program.version;
    if spec.templates == TemplatePolicy::Off || version < templates::LEAST_QEMU {
        return None;
    }
    let machine = MachineShape::fitting(
        spec.cpus,
        spec.memory,
        spec.disk,
        spec.nested_virtualization,
        spec.shares.len(),
    );
    let accelerator = hypervisor.decision.accelerator;
    templates::shape(machine, image, version, accelerator)
}

/// Creates the plan with new keys. The plan restores `template` if there is one.
pub(crate) fn plan(
    host: &Host,
    spec: SandboxSpec,
    image: BootImage,
    hypervisor: &Hypervisor,
    template: Option<&Template>,
    authorized_keys: &[String],
) -> Result<StartPlan, Error> {
    let layout = StateLayout::new(host.directories(), &spec.name);
    let keys = Keys::generate(spec.name.as_str())?;
    let setup = host_setup(host, hypervisor, authorized_keys)?;
    let template = template.map(|template| templates::files(host.templates(), template));
    Ok(StartPlan::new(spec, layout, image, setup, keys, template)?)
}

/// Returns a new machine-id (machine-id(5)), from the kernel's random UUID.
fn machine_id() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let uuid = std::fs::read_to_string(path).map_err(FileError::new("read", path))?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).collect())
}
