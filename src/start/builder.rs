//! The builder of a sandbox.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox_protocol::control::Request;
use sandbox_spec::domain::DomainPattern;
use sandbox_spec::policy::Transport;
use sandbox_spec::publish::PublishedPort;
use sandbox_spec::secret::{SecretRequest, SecretSpec};
use sandbox_spec::{
    AcceleratorChoice, CpuCount, DiskSize, MemorySize, NameError, SandboxName, Share, ShareMode,
    TemplatePolicy,
};

use super::prepare::{self, StartRequest};
use super::{Joined, Listener, NetworkPolicy, Supervision, image, launch, template, wait};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::host::Host;
use crate::options::StartOptions;
use crate::spec::{Lifetime, shareable_directory};
use crate::state::StateLayout;
use crate::{Sandbox, differences, registry};

/// Where a sandbox's supervisor runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupervisorKind {
    /// In a thread of this process. QEMU ends with the process, even if the process is killed.
    #[default]
    Thread,
    /// In a separate process of the installed `sandbox` program.
    Process,
}

/// The settings of a sandbox and of its start. [`Sandbox::builder`] creates it.
///
/// Setters accept plain values. [`start`](Self::start) reports the first invalid one.
#[must_use = "a sandbox starts with `start`"]
pub struct SandboxBuilder {
    host: Host,
    options: StartOptions,
    defaults: StartOptions,
    name: Option<SandboxName>,
    workspace: Option<PathBuf>,
    fresh: bool,
    lifetime: Lifetime,
    supervisor: SupervisorKind,
    listener: Listener,
    authorized_keys: Vec<String>,
    allowlist: Option<Vec<DomainPattern>>,
    allowlist_of: Option<SandboxName>,
    secrets: Vec<SecretSpec>,
    variables: fn(&str) -> Option<OsString>,
    invalid: Option<Error>,
}

impl SandboxBuilder {
    pub(crate) fn new(host: &Host) -> Self {
        Self {
            host: host.clone(),
            options: StartOptions::default(),
            defaults: StartOptions::default(),
            name: None,
            workspace: None,
            fresh: false,
            lifetime: Lifetime::Attached,
            supervisor: SupervisorKind::Thread,
            listener: Box::new(|_| {}),
            authorized_keys: Vec::new(),
            allowlist: None,
            allowlist_of: None,
            secrets: Vec::new(),
            variables: |_| None,
            invalid: None,
        }
    }

    /// Sets a valid value, or keeps the error of the first invalid one.
    fn keep<T, E: Into<Error>>(
        mut self,
        value: Result<T, E>,
        set: impl FnOnce(&mut Self, T),
    ) -> Self {
        match value {
            Ok(value) => set(&mut self, value),
            Err(error) => self.invalid = self.invalid.or_else(|| Some(error.into())),
        }
        self
    }

    /// Replaces all options that were set so far.
    pub fn options(mut self, options: StartOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the defaults of unset options, from a configuration file for example.
    pub fn defaults(mut self, defaults: StartOptions) -> Self {
        self.defaults = defaults;
        self
    }

    /// Sets the sandbox's name. The default is the name of the workspace ([`Host::name_for`]), or a
    /// random one without a workspace.
    pub fn name(self, name: &str) -> Self {
        self.keep(name.parse(), |builder, name| builder.name = Some(name))
    }

    /// Shares a host directory at `/home/dev/workspace`. The default is no workspace.
    pub fn workspace(mut self, directory: impl Into<PathBuf>) -> Self {
        self.workspace = Some(directory.into());
        self
    }

    /// Sets the base image. The default is `debian-13`.
    pub fn image(self, image: &str) -> Self {
        self.keep(image.parse(), |builder, image| {
            builder.options.image = Some(image)
        })
    }

    /// Sets the number of processors. The default is 2.
    pub fn cpus(self, cpus: u32) -> Self {
        let cpus = cpus.to_string().parse::<CpuCount>();
        self.keep(cpus, |builder, cpus| builder.options.cpus = Some(cpus))
    }

    /// Sets the memory size, in MiB. The default is 2048.
    pub fn memory_mib(self, memory: u64) -> Self {
        let memory = format!("{memory}M").parse::<MemorySize>();
        self.keep(memory, |builder, memory| {
            builder.options.memory = Some(memory)
        })
    }

    /// Sets the size of the root disk as the guest sees it, in GiB. The default is 20.
    pub fn disk_gib(self, disk: u64) -> Self {
        let disk = format!("{disk}G").parse::<DiskSize>();
        self.keep(disk, |builder, disk| builder.options.disk = Some(disk))
    }

    /// Sets the accelerator of the guest's processors.
    pub fn accelerator(mut self, choice: AcceleratorChoice) -> Self {
        self.options.accelerator = Some(choice);
        self
    }

    /// Adds a share.
    pub fn share(mut self, share: Share) -> Self {
        self.options.shares.push(share);
        self
    }

    /// Sets how shares store owners and modes.
    pub fn share_mode(mut self, mode: ShareMode) -> Self {
        self.options.share_mode = Some(mode);
        self
    }

    /// Sets the cloud-config file that the start applies.
    pub fn cloud_init(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.cloud_init = Some(file.into());
        self
    }

    /// Sets how long the guest may take to become ready. The default is 2 minutes, or 10 minutes if the
    /// processors are emulated.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.options.ready_timeout = Some(timeout);
        self
    }

    /// Sets how the start uses templates.
    pub fn templates(mut self, policy: TemplatePolicy) -> Self {
        self.options.templates = Some(policy);
        self
    }

    /// Sets the destinations that the guest may reach.
    pub fn network(mut self, policy: NetworkPolicy) -> Self {
        self.allowlist = policy.apply(&mut self.options);
        self
    }

    /// Forwards a TCP port of the host to the guest. Port 0 of the host selects a free port.
    pub fn publish(mut self, host: impl Into<SocketAddr>, guest: u16) -> Self {
        self.options.publish.push(PublishedPort {
            host: host.into(),
            guest,
            transport: Transport::Tcp,
        });
        self
    }

    /// Adds a secret. The guest gets a placeholder in the variable `name`, which the gateway replaces with
    /// `value` in requests to `hosts`.
    pub fn secret(self, name: &str, value: impl Into<OsString>, hosts: &[&str]) -> Self {
        let value = value.into();
        let secret = SecretRequest::of_variable(&format!("{name}@{}", hosts.join(",")))
            .and_then(|request| request.resolve(|_| Some(value.clone())));
        self.keep(secret, |builder, secret| builder.secrets.push(secret))
    }

    /// Sets the source of variables for the secrets in [`options`](Self::options). The default has no
    /// variables.
    pub fn variables(mut self, variables: fn(&str) -> Option<OsString>) -> Self {
        self.variables = variables;
        self
    }

    /// Authorizes an SSH key, by a line of `authorized_keys` (sshd(8)).
    pub fn authorized_key(mut self, line: impl Into<String>) -> Self {
        self.authorized_keys.push(line.into());
        self
    }

    /// Uses the allowlist of another sandbox in proxy mode.
    pub fn allowlist_of(mut self, name: SandboxName) -> Self {
        self.allowlist_of = Some(name);
        self
    }

    /// Makes the start fail if the sandbox already runs, instead of joining it.
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Sets whether the sandbox ends with its handle. The default is [`Lifetime::Attached`].
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets where the supervisor runs. The default is [`SupervisorKind::Thread`].
    pub fn supervisor(mut self, kind: SupervisorKind) -> Self {
        self.supervisor = kind;
        self
    }

    /// Makes the sandbox outlive this program, under this name. A process of the installed `sandbox`
    /// program owns it.
    pub fn detach(self, name: &str) -> Self {
        self.supervisor(SupervisorKind::Process)
            .lifetime(Lifetime::Persistent)
            .name(name)
    }

    /// Calls `listener` with each event until the sandbox is ready.
    pub fn on_event(mut self, listener: impl FnMut(&Event) + Send + 'static) -> Self {
        self.listener = Box::new(listener);
        self
    }

    /// Starts the sandbox, or joins it if it already runs. Returns once the sandbox is ready.
    ///
    /// # Errors
    /// Any [`ErrorKind`]. A failed start leaves no process and no state.
    pub async fn start(self) -> Result<Sandbox, Error> {
        let started = self.start_until(std::future::pending()).await?;
        started.ok_or_else(|| Error::new(ErrorKind::Cancelled, "the start was cancelled", None))
    }

    /// Like [`start`](Self::start), but ends the start once `cancel` is ready, and returns `None` after
    /// that. A sandbox that was only joined keeps running.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_until(
        mut self,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<Option<Sandbox>, Error> {
        if let Some(invalid) = self.invalid.take() {
            return Err(invalid);
        }
        let workspace = match &self.workspace {
            Some(directory) => Some(shareable_directory(directory)?),
            None => None,
        };
        let mut name = self.chosen_name(workspace.as_deref())?;
        let options = self.options.clone().combine(self.defaults.clone());
        let mut cancel = std::pin::pin!(cancel);
        loop {
            match self
                .attempt(&options, name, workspace.as_deref(), cancel.as_mut())
                .await?
            {
                Attempt::Ended(sandbox) => return Ok(sandbox.map(|sandbox| *sandbox)),
                Attempt::NameTaken(directory) => {
                    name = registry::name_for(self.host.directories(), &directory)?;
                }
            }
        }
    }

    /// Plans the start without changing anything. The probes of QEMU and KVM write their caches to the
    /// directory `scratch`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn plan(mut self, scratch: &Path) -> Result<prepare::Planned, Error> {
        if let Some(invalid) = self.invalid.take() {
            return Err(invalid);
        }
        let workspace = match &self.workspace {
            Some(directory) => Some(shareable_directory(directory)?),
            None => None,
        };
        let name = self.chosen_name(workspace.as_deref())?;
        let host = self.host.clone();
        self.options = self.options.combine(std::mem::take(&mut self.defaults));
        let hypervisor = prepare::hypervisor(&host, &self.options, scratch)?;
        let stored = host.images().open(&prepare::image(&self.options))?;
        let image = match &stored {
            Some(image) => image::boot_image(image),
            None => image::unknown(&host, &prepare::image(&self.options))?,
        };
        let mut events = Vec::new();
        let spec = prepare::specification(
            &host,
            &self.request(name, workspace.as_deref()),
            hypervisor.decision.accelerator,
            &mut |event: &Event| events.push(event.clone()),
        )?;
        let shape = prepare::template_shape(&spec, &image, &hypervisor);
        let template = match &shape {
            Some(shape) => host.templates().peek(&shape.key())?,
            None => None,
        };
        let is_image_stored = stored.is_some();
        let warning = hypervisor.decision.warning.clone();
        let plan = prepare::plan(
            &host,
            spec,
            image,
            &hypervisor,
            template.as_ref(),
            &self.authorized_keys,
        )?;
        events.extend(warning.map(Event::Emulated));
        Ok(prepare::Planned {
            plan,
            is_image_stored,
            events,
        })
    }

    fn request<'a>(&'a self, name: SandboxName, workspace: Option<&'a Path>) -> StartRequest<'a> {
        StartRequest {
            allowlist_of: self.allowlist_of.clone(),
            name,
            workspace,
            options: &self.options,
            lifetime: self.lifetime,
            allowlist: self.allowlist.as_deref(),
            secrets: &self.secrets,
            variables: self.variables,
        }
    }

    /// Returns the set name, the name of the workspace, or a random one.
    fn chosen_name(&self, workspace: Option<&Path>) -> Result<SandboxName, Error> {
        match (&self.name, workspace) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(workspace)) => Ok(registry::name_for(self.host.directories(), workspace)?),
            (None, None) => new_name(),
        }
    }

    /// Starts or joins the sandbox once.
    async fn attempt(
        &mut self,
        options: &StartOptions,
        name: SandboxName,
        workspace: Option<&Path>,
        mut cancel: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Attempt, Error> {
        let host = self.host.clone();
        let layout = StateLayout::new(host.directories(), &name);
        if !registry::is_owned(&layout) {
            // Fast checks come first, since building an image takes minutes.
            let state = host.directories().state.clone();
            let hypervisor = prepare::hypervisor(&host, options, &state)?;
            let accelerator = hypervisor.decision.accelerator;
            let request = StartRequest {
                allowlist_of: self.allowlist_of.clone(),
                name: name.clone(),
                workspace,
                options,
                lifetime: self.lifetime,
                allowlist: self.allowlist.as_deref(),
                secrets: &self.secrets,
                variables: self.variables,
            };
            let spec = prepare::specification(&host, &request, accelerator, &mut self.listener)?;
            let obtained =
                image::obtain(&host, &spec.image, &mut self.listener, cancel.as_mut()).await?;
            let Some(image) = obtained else {
                return Ok(Attempt::Ended(None));
            };
            let image = image::boot_image(&image);
            let shape = prepare::template_shape(&spec, &image, &hypervisor);
            let found = shape
                .as_ref()
                .and_then(|shape| template::find(&host, shape, &mut self.listener));
            let plan = prepare::plan(
                &host,
                spec,
                image,
                &hypervisor,
                found.as_ref(),
                &self.authorized_keys,
            )?;
            match launch::claim(
                &layout,
                &name,
                workspace,
                self.is_replaceable(workspace, &name),
            )
            .await?
            {
                launch::Claimed::Elsewhere(directory) => {
                    return Ok(Attempt::NameTaken(directory));
                }
                launch::Claimed::Taken(_) => {}
                launch::Claimed::Free(lock) => {
                    if let Some(warning) = hypervisor.decision.warning {
                        (self.listener)(&Event::Emulated(warning));
                    }
                    if let Some(template) = &found {
                        host.templates().touch(&template.key);
                    }
                    let supervision = self.supervision(&host)?;
                    let launched = launch::launch(&plan, lock, &supervision).await?;
                    let joined = Joined {
                        host: host.clone(),
                        name,
                        layout,
                        connection: launched.connection,
                        thread: launched.thread,
                        workspace: workspace.map(Path::to_path_buf),
                        is_started: true,
                    };
                    let waited = wait::wait_for_ready(joined, &mut self.listener, cancel).await?;
                    if let (Some(sandbox), Some(shape)) = (&waited, &shape)
                        && sandbox.has_booted()
                    {
                        template::build_in_background(&host, &plan, shape, options);
                    }
                    return Ok(Attempt::Ended(waited.map(Box::new)));
                }
            }
        }
        self.join(host, layout, name, workspace, cancel).await
    }

    /// Joins a sandbox that a process owns.
    async fn join(
        &mut self,
        host: Host,
        layout: StateLayout,
        name: SandboxName,
        workspace: Option<&Path>,
        cancel: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Attempt, Error> {
        if self.fresh {
            return Err(registry::RegistryError::AlreadyRunning { name }.into());
        }
        let replaceable = self.is_replaceable(workspace, &name);
        match launch::claim(&layout, &name, workspace, replaceable).await? {
            launch::Claimed::Elsewhere(directory) => Ok(Attempt::NameTaken(directory)),
            launch::Claimed::Taken(connection) => {
                let settings = differences::between(&self.options, &layout);
                if !settings.is_empty() {
                    (self.listener)(&Event::SettingsIgnored { settings });
                }
                let joined = Joined {
                    host,
                    name,
                    layout,
                    connection,
                    thread: None,
                    workspace: workspace.map(Path::to_path_buf),
                    is_started: false,
                };
                let waited = wait::wait_for_ready(joined, &mut self.listener, cancel).await?;
                Ok(Attempt::Ended(waited.map(Box::new)))
            }
            // It ended between the two checks.
            launch::Claimed::Free(lock) => {
                registry::collect(&layout, lock);
                Err(Error::new(
                    ErrorKind::InUse,
                    format!("the sandbox `{name}` has just ended"),
                    Some("try again".into()),
                ))
            }
        }
    }

    /// Returns whether the name comes from the directory, so that another one is acceptable.
    fn is_replaceable(&self, workspace: Option<&Path>, name: &SandboxName) -> bool {
        self.name.is_none()
            && workspace.is_some_and(|workspace| {
                SandboxName::for_directory(workspace).is_ok_and(|plain| plain == *name)
            })
    }

    fn supervision(&self, host: &Host) -> Result<Supervision, Error> {
        Ok(match self.supervisor {
            SupervisorKind::Thread => Supervision::Thread,
            SupervisorKind::Process => Supervision::Process(crate::role::program(host)?),
        })
    }
}

/// The result of an attempt without an error.
enum Attempt {
    /// A sandbox, or `None` if the start was cancelled.
    Ended(Option<Box<Sandbox>>),
    /// Another directory took the name. This directory needs another name.
    NameTaken(PathBuf),
}

/// Returns a random name.
fn new_name() -> Result<SandboxName, Error> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let digits: String = uuid.chars().take(8).collect();
    format!("run-{digits}")
        .parse()
        .map_err(|error: NameError| error.into())
}

/// The first request of a connection that only reads events.
pub(super) const FOLLOW: Request = Request::Subscribe;
