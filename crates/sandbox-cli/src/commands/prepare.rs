//! From settings to a start plan: image, QEMU, accelerator, keys.

use std::path::Path;
use std::time::Duration;

use super::context::Context;
use crate::output::Report;
use sandbox::guest::cloud_config;
use sandbox::ssh::agent;
use sandbox::ssh::keys::Keys;
use sandbox::{
    BootImage, HostCapacity, HostSetup, Lifetime, MachineShape, NetworkSpec, SandboxSpec,
    StartPlan, StateLayout, shareable_directory, templates,
};
use sandbox_gateway::intercept::AuthorityParts;
use sandbox_host::files::FileError;
use sandbox_qemu::accelerator::Decision;
use sandbox_qemu::program::{QemuProgram, Search};
use sandbox_qemu::{accelerator, program};
use sandbox_spec::policy::Policy;
use sandbox_spec::secret::{SecretError, SecretSource};
use sandbox_spec::{Accelerator, SandboxName, TemplatePolicy};
use sandbox_store::image::Image;
use sandbox_store::template::{Shape, Template};

/// How long a guest may take to become ready if the user does not say: about
/// ten times what it takes.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// The same under emulation, on a busy machine.
const READY_TIMEOUT_EMULATED: Duration = Duration::from_secs(600);

/// QEMU and how it runs the guest's processors.
pub(super) struct Hypervisor {
    pub(super) program: QemuProgram,
    pub(super) decision: Decision,
}

/// Finds QEMU and an accelerator; what is found is remembered in
/// `cache_directory`.
pub(super) fn hypervisor(context: &Context, cache_directory: &Path) -> Result<Hypervisor, Report> {
    let program = program::locate(Search {
        program_override: std::env::var_os(program::OVERRIDE_VARIABLE).as_deref(),
        search_path: std::env::var_os("PATH").as_deref(),
        cache_directory,
    })?;
    let decision = accelerator::select(context.settings.accelerator, cache_directory)?;
    Ok(Hypervisor { program, decision })
}

/// What the user wants, checked against this host.
pub(super) fn specification(
    context: &Context,
    name: SandboxName,
    workspace: &Path,
    lifetime: Lifetime,
    accelerator: Accelerator,
) -> Result<SandboxSpec, Report> {
    let settings = &context.settings;
    let shares = settings
        .shares
        .iter()
        .map(|share| {
            let mut share = share.clone();
            share.host = shareable_directory(&expand_home(context, &share.host))?;
            Ok(share)
        })
        .collect::<Result<_, Report>>()?;
    let cloud_config = match &settings.cloud_init {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let error = FileError::new("read the cloud-config", path)(error);
                Report::of(&error, Some("`--cloud-init` takes a text file".into()))
            })?;
            let config = cloud_config::parse(&text)?;
            for part in cloud_config::not_taken(&config) {
                context.printer.warning(format_args!(
                    "of the cloud-config `{}`, {part} is not taken",
                    path.display()
                ));
            }
            Some(config)
        }
        None => None,
    };
    let ready_timeout = settings.ready_timeout.unwrap_or(ready_timeout(accelerator));
    let spec = SandboxSpec {
        name,
        workspace: workspace.into(),
        cpus: settings.cpus,
        memory: settings.memory,
        disk: settings.disk,
        shares,
        share_mode: settings.share_mode,
        cloud_config,
        ready_timeout,
        lifetime,
        network: network(context)?,
    };
    spec.check(HostCapacity::of_this_host(), &context.directories.state)?;
    Ok(spec)
}

/// The network that the user wants, with the values of its secrets.
fn network(context: &Context) -> Result<NetworkSpec, Report> {
    let settings = &context.settings.network;
    let secrets = settings
        .secrets
        .iter()
        .map(|request| {
            let mut request = request.clone();
            if let SecretSource::File(path) = &mut request.source {
                *path = expand_home(context, path);
            }
            request.resolve(|name| std::env::var_os(name))
        })
        .collect::<Result<Vec<_>, SecretError>>()?;
    let authority = match &secrets[..] {
        [] => None,
        secrets => Some(AuthorityParts::generate(secrets)?),
    };
    // A sandbox for one command has the list of its directory's sandbox.
    let owner = super::target::name(context, None)?;
    Ok(NetworkSpec {
        proxy_directory: context.directories.proxy(owner.as_str()),
        authority,
        policy: Policy {
            preset: settings.preset,
            rules: settings.rules.clone(),
        },
        proxy: settings.proxy,
        published: settings.published.clone(),
        dns: settings.dns,
        max_connections: settings.max_connections,
        bandwidth: settings.bandwidth,
        secrets,
    })
}

/// `~/…`, which a shell does not expand behind `--share`.
fn expand_home(context: &Context, path: &Path) -> std::path::PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => context.directories.home.join(rest),
        Err(_) => path.into(),
    }
}

/// How long a guest may take if the user does not say.
pub(super) fn ready_timeout(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => READY_TIMEOUT,
        Accelerator::Tcg => READY_TIMEOUT_EMULATED,
    }
}

/// What a plan needs to know of this host.
pub(super) async fn host_setup(
    context: &Context,
    hypervisor: &Hypervisor,
) -> Result<HostSetup, Report> {
    let agent_keys = match std::env::var_os("SSH_AUTH_SOCK") {
        Some(socket) => agent::public_keys(Path::new(&socket)).await,
        None => Vec::new(),
    };
    Ok(HostSetup {
        qemu: hypervisor.program.path.clone(),
        accelerator: hypervisor.decision.accelerator,
        home: context.directories.home.clone(),
        machine_id: machine_id()?,
        agent_keys,
    })
}

/// The shape of the template that a sandbox would be restored from; `None`
/// where templates are not wanted or QEMU cannot have them.
pub(super) fn template_shape(
    context: &Context,
    spec: &SandboxSpec,
    image: &BootImage,
    hypervisor: &Hypervisor,
) -> Option<Shape> {
    let version = hypervisor.program.version;
    if context.settings.templates == TemplatePolicy::Off || version < templates::LEAST_QEMU {
        return None;
    }
    let machine = MachineShape::fitting(spec.cpus, spec.memory, spec.disk, spec.shares.len());
    let accelerator = hypervisor.decision.accelerator;
    Some(templates::shape(machine, image, version, accelerator))
}

/// The plan, with new keys; it restores the template if one is given.
pub(super) async fn plan(
    context: &Context,
    spec: SandboxSpec,
    image: BootImage,
    hypervisor: &Hypervisor,
    template: Option<&Template>,
) -> Result<StartPlan, Report> {
    let layout = StateLayout::new(&context.directories, &spec.name);
    let keys = Keys::generate(spec.name.as_str())?;
    let host = host_setup(context, hypervisor).await?;
    let template = template.map(|template| templates::files(context.templates(), template));
    Ok(StartPlan::new(spec, layout, image, host, keys, template)?)
}

/// A new machine-id (machine-id(5)), from the kernel's random UUID.
fn machine_id() -> Result<String, Report> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let uuid = std::fs::read_to_string(path).map_err(FileError::new("read", path))?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).collect())
}

/// The files of a stored image.
pub(super) fn boot_image(image: &Image) -> BootImage {
    let content = &image.metadata.content;
    BootImage {
        name: image.metadata.name.to_string(),
        digest: image.metadata.digest.to_string(),
        disk: image.disk.clone(),
        disk_bytes: content.files.disk.virtual_size_bytes,
        kernel: image.kernel.clone(),
        modules: image.modules.clone(),
        command_line: content.command_line.clone(),
    }
}
