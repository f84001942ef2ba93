//! Carries out the request of a builder: starts, joins or plans a sandbox.

use std::path::{Path, PathBuf};

use sandbox_spec::{NameError, SandboxName};

use super::builder::{SandboxBuilder, SupervisorKind};
use super::prepare::{self, StartRequest};
use super::{Joined, Listener, Supervision, image, launch, template, wait};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::host::Host;
use crate::options::StartOptions;
use crate::spec::shareable_directory;
use crate::state::StateLayout;
use crate::{Sandbox, differences, registry};

impl SandboxBuilder {
    /// Starts the sandbox, or joins it if it already runs. Returns once the sandbox is ready.
    ///
    /// # Errors
    /// Any [`ErrorKind`]. A failed start leaves no process and no state.
    pub async fn start(self) -> Result<Sandbox, Error> {
        let started = self.start_until(std::future::pending()).await?;
        started.ok_or_else(|| Error::new(ErrorKind::Cancelled, "the start was cancelled", None))
    }

    /// Like [`start`](Self::start), but ends the start once `cancel` is ready, and returns `None`
    /// after that. A sandbox that was only joined keeps running.
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
        let mut listener: Listener = std::mem::replace(&mut self.listener, Box::new(|_| {}));
        let mut cancel = std::pin::pin!(cancel);
        loop {
            match self
                .attempt(
                    &mut listener,
                    &options,
                    name,
                    workspace.as_deref(),
                    cancel.as_mut(),
                )
                .await?
            {
                Attempt::Ended(sandbox) => return Ok(sandbox.map(|sandbox| *sandbox)),
                Attempt::NameTaken(directory) => {
                    name = registry::name_for(self.host.directories(), &directory)?;
                }
                Attempt::JustEnded(free) => name = free,
            }
        }
    }

    /// Plans the start without changing anything. The probes of QEMU and KVM write their caches to
    /// the directory `scratch`.
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
        let options = self.options.clone().combine(self.defaults.clone());
        let hypervisor = prepare::hypervisor(&host, &options, scratch)?;
        let stored = host.images().open(&prepare::image(&options))?;
        let image = match &stored {
            Some(image) => {
                image.check_contract()?;
                image::boot_image(image)
            }
            None => image::unknown(&host, &prepare::image(&options))?,
        };
        let mut events = Vec::new();
        let spec = prepare::specification(
            &host,
            &self.request(&options, name, workspace.as_deref()),
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

    fn request<'a>(
        &'a self,
        options: &'a StartOptions,
        name: SandboxName,
        workspace: Option<&'a Path>,
    ) -> StartRequest<'a> {
        StartRequest {
            allowlist_of: self.allowlist_of.clone(),
            name,
            workspace,
            options,
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
        listener: &mut Listener,
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
            let request = self.request(options, name.clone(), workspace);
            let spec = prepare::specification(&host, &request, accelerator, listener)?;
            let obtained = image::obtain(&host, &spec.image, listener, cancel.as_mut()).await?;
            let Some(image) = obtained else {
                return Ok(Attempt::Ended(None));
            };
            let image = image::boot_image(&image);
            let shape = prepare::template_shape(&spec, &image, &hypervisor);
            let found = shape
                .as_ref()
                .and_then(|shape| template::find(&host, shape, listener));
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
                        listener(&Event::Emulated(warning));
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
                    let waited = wait::wait_for_ready(joined, listener, cancel).await?;
                    if let (Some(sandbox), Some(shape)) = (&waited, &shape)
                        && sandbox.has_booted()
                    {
                        template::build_in_background(&host, &plan, shape, options);
                    }
                    return Ok(Attempt::Ended(waited.map(Box::new)));
                }
            }
        }
        self.join(listener, host, layout, name, workspace, cancel)
            .await
    }

    /// Joins a sandbox that a process owns.
    async fn join(
        &mut self,
        listener: &mut Listener,
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
                    listener(&Event::SettingsIgnored { settings });
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
                let waited = wait::wait_for_ready(joined, listener, cancel).await?;
                Ok(Attempt::Ended(waited.map(Box::new)))
            }
            launch::Claimed::Free(lock) => {
                registry::collect(&layout, lock);
                Ok(Attempt::JustEnded(name))
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
    /// The sandbox ended after it was found running. Now it can be started.
    JustEnded(SandboxName),
}

/// Returns a random name.
fn new_name() -> Result<SandboxName, Error> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let digits: String = uuid.chars().take(8).collect();
    format!("run-{digits}")
        .parse()
        .map_err(|error: NameError| error.into())
}
