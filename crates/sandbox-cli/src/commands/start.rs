//! Starting a sandbox, or joining one that starts or runs, with progress and
//! with Ctrl-C at any stage.

use std::path::Path;
use std::time::Duration;

use super::context::Context;
use super::{image, prepare, template_build};
use crate::output::{Progress, Report};
use sandbox::lifecycle::{self, Claim, LifecycleError};
use sandbox::{Lifetime, StateLayout};
use sandbox_host::files;
use sandbox_host::files::FileError;
use sandbox_host::notices::{Notice, Notices};
use sandbox_protocol::control::{Connection, Request};
use sandbox_protocol::{Event, Failure, Record};
use sandbox_spec::secret::SecretSummary;
use sandbox_spec::{Accelerator, SandboxName};
use sandbox_store::template::{Shape, Template};

/// A sandbox that sessions can enter.
pub(super) struct Ready {
    pub(super) name: SandboxName,
    pub(super) layout: StateLayout,
    pub(super) ssh_port: u16,
    /// The version of the guest agent's protocol, if the agent answers.
    pub(super) agent: Option<u32>,
    /// Events go on; an attached sandbox lives as long as this.
    pub(super) connection: Connection,
    /// Whether this command started it.
    pub(super) started: bool,
    /// Whether it was seen to boot, for want of a template that could be
    /// restored.
    pub(super) booted: bool,
}

/// How an attempt to get a sandbox ended without an error.
pub(super) enum Start {
    Ready(Ready),
    /// By the user, with Ctrl-C or the like; nothing is left.
    Interrupted,
}

/// Joins the sandbox `name` of `workspace` if it runs, else starts it.
pub(super) async fn ensure(
    context: &Context,
    mut name: SandboxName,
    workspace: &Path,
    lifetime: Lifetime,
    notices: &mut Notices,
) -> Result<Start, Report> {
    loop {
        match attempt(context, name, workspace, lifetime, notices).await? {
            Some(start) => return Ok(start),
            None => name = lifecycle::name_for(&context.directories, workspace)?,
        }
    }
}

/// Joins or starts; `None` if the name, chosen after the directory, has gone
/// to another directory that is called the same.
async fn attempt(
    context: &Context,
    name: SandboxName,
    workspace: &Path,
    lifetime: Lifetime,
    notices: &mut Notices,
) -> Result<Option<Start>, Report> {
    let layout = StateLayout::new(&context.directories, &name);
    if lifecycle::find(&context.directories, &name)?.is_none() {
        // First what fails at once: an image may have to be built, for minutes.
        let hypervisor = prepare::hypervisor(context, &context.directories.state)?;
        let accelerator = hypervisor.decision.accelerator;
        let spec = prepare::specification(context, name.clone(), workspace, lifetime, accelerator)?;
        let Some(image) = image::obtain(context, &context.settings.image, notices).await? else {
            return Ok(Some(Start::Interrupted));
        };
        let image = prepare::boot_image(&image);
        let shape = prepare::template_shape(context, &spec, &image, &hypervisor);
        let template = match &shape {
            Some(shape) => find_template(context, shape),
            None => None,
        };
        let plan = prepare::plan(context, spec, image, &hypervisor, template.as_ref()).await?;
        match claim(context, &layout, &name, workspace).await? {
            None => return Ok(None),
            Some(Claim::Taken(_)) => {}
            Some(Claim::Free(lock)) => {
                if let Some(warning) = &hypervisor.decision.warning {
                    context.printer.warning(warning);
                }
                if let Some(template) = &template {
                    context.templates().touch(&template.key);
                }
                let connection = lifecycle::launch(&plan, lock).await?;
                let progress = context.printer.progress();
                let waiting = Waiting {
                    context,
                    name,
                    layout,
                    connection,
                    started: true,
                    booted: false,
                    progress,
                };
                let start = waiting.for_ready(notices).await?;
                if let (Start::Ready(ready), Some(shape)) = (&start, &shape)
                    && ready.booted
                {
                    template_build::in_background(context, &plan, shape);
                }
                return Ok(Some(start));
            }
        }
    }
    match claim(context, &layout, &name, workspace).await? {
        None => Ok(None),
        Some(Claim::Taken(connection)) => {
            warn_of_differences(context, &name, &layout);
            joined(context, name, layout, connection)
                .for_ready(notices)
                .await
                .map(Some)
        }
        // It ended between the two looks.
        Some(Claim::Free(lock)) => {
            lifecycle::sweep(&layout, lock);
            Err(Report::new(
                format!("the sandbox `{name}` has just ended"),
                Some("try again".into()),
            ))
        }
    }
}

/// The template for a start. A store that cannot be read costs the warm start,
/// not the sandbox.
fn find_template(context: &Context, shape: &Shape) -> Option<Template> {
    let found = context.templates().find(&shape.key());
    found.unwrap_or_else(|error| {
        context
            .printer
            .warning(format_args!("templates cannot be used: {error}"));
        None
    })
}

/// Claims the name; `None` if another directory has it and this one can have
/// another: minutes may have passed since it was chosen.
async fn claim(
    context: &Context,
    layout: &StateLayout,
    name: &SandboxName,
    workspace: &Path,
) -> Result<Option<Claim>, Report> {
    let replaceable = context.settings.name.is_none()
        && SandboxName::for_directory(workspace).is_ok_and(|plain| plain == *name);
    match lifecycle::claim(layout, name, workspace, Request::Subscribe).await {
        Err(LifecycleError::OtherWorkspace { .. }) if replaceable => Ok(None),
        claimed => Ok(Some(claimed?)),
    }
}

/// Waits until a sandbox that some command started is ready.
pub(super) async fn join(
    context: &Context,
    name: SandboxName,
    layout: StateLayout,
    notices: &mut Notices,
) -> Result<Start, Report> {
    let connection = Connection::open(&layout.control_socket(), Request::Subscribe)
        .await
        .map_err(|error| {
            Report::of(
                &FileError::new("connect to the supervisor at", layout.control_socket())(error),
                Some(format!("`sandbox stop {name}` clears what is left of it").into()),
            )
        })?;
    joined(context, name, layout, connection)
        .for_ready(notices)
        .await
}

/// A start that another command began. What happened before it was ready is
/// old news once it is.
fn joined(
    context: &Context,
    name: SandboxName,
    layout: StateLayout,
    connection: Connection,
) -> Waiting<'_> {
    let is_ready = matches!(Record::read(&layout.record()), Ok(Some(record)) if record.ready);
    let progress = match is_ready {
        true => Progress::silent(),
        false => context.printer.progress(),
    };
    Waiting {
        context,
        name,
        layout,
        connection,
        started: false,
        booted: false,
        progress,
    }
}

/// A running sandbox keeps what it was started with: says so where the user
/// asks for something else.
fn warn_of_differences(context: &Context, name: &SandboxName, layout: &StateLayout) {
    let Ok(Some(record)) = Record::read(&layout.record()) else {
        return;
    };
    let asked = &context.overrides;
    let differences = [
        ("--cpus", asked.cpus.is_some_and(|cpus| cpus != record.cpus)),
        (
            "--memory",
            asked.memory.is_some_and(|memory| memory != record.memory),
        ),
        ("--disk", asked.disk.is_some_and(|disk| disk != record.disk)),
        (
            "--image",
            asked
                .image
                .as_ref()
                .is_some_and(|image| image.as_str() != record.image),
        ),
        (
            "--share-mode",
            asked
                .share_mode
                .is_some_and(|mode| mode != record.share_mode),
        ),
        (
            "--share",
            !asked.shares.is_empty() && asked.shares.len() != record.shares.len(),
        ),
    ];
    let network = &asked.network;
    let running = &record.network;
    let network_differences = [
        (
            "--network",
            network
                .preset
                .is_some_and(|preset| preset != running.policy.preset),
        ),
        (
            "--net-rule",
            !network.rules.is_empty() && !running.policy.rules.starts_with(&network.rules),
        ),
        (
            "--proxy",
            network.proxy.is_some_and(|proxy| proxy != running.proxy),
        ),
        (
            "--publish",
            network
                .published
                .iter()
                .any(|port| !running.published.contains(port)),
        ),
        (
            "--dns",
            network.dns.is_some_and(|dns| Some(dns) != running.dns),
        ),
        (
            "--max-connections",
            network
                .max_connections
                .is_some_and(|limit| limit != running.max_connections),
        ),
        (
            "--bandwidth",
            network
                .bandwidth
                .is_some_and(|bandwidth| Some(bandwidth) != running.bandwidth),
        ),
        (
            "--secret",
            network.secrets.iter().any(|secret| {
                let same = |other: &SecretSummary| {
                    (&other.name, &other.hosts) == (&secret.name, &secret.hosts)
                };
                !running.secrets.iter().any(same)
            }),
        ),
    ];
    let different: Vec<&str> = differences
        .iter()
        .chain(&network_differences)
        .filter(|(_, differs)| *differs)
        .map(|(flag, _)| *flag)
        .collect();
    if !different.is_empty() {
        context.printer.warning(format_args!(
            "`{name}` runs already, with another value of {}; `sandbox stop {name}` first to change that",
            different.join(", ")
        ));
    }
}

/// Says once, ever, how to make the aliases work.
fn tell_of_missing_include(context: &Context, name: &SandboxName) {
    let told = context.directories.state.join("ssh-include-told");
    if told.exists() || files::write_private(&told, b"").is_err() {
        return;
    }
    context.printer.warning(format_args!(
        "`~/.ssh/config` does not include `~/.ssh/config.d/`: put the line `Include config.d/*.conf` at its top to make `ssh {name}` work"
    ));
}

/// A start that is under way.
struct Waiting<'a> {
    context: &'a Context,
    name: SandboxName,
    layout: StateLayout,
    connection: Connection,
    started: bool,
    booted: bool,
    progress: Progress,
}

impl Waiting<'_> {
    async fn for_ready(mut self, notices: &mut Notices) -> Result<Start, Report> {
        loop {
            tokio::select! {
                event = self.connection.next_event() => {
                    let Ok(Some(event)) = event else {
                        return Err(self.lost());
                    };
                    if let Event::Ready { ssh_port, agent } = event.event {
                        self.progress.finish();
                        return Ok(Start::Ready(Ready {
                            name: self.name,
                            layout: self.layout,
                            ssh_port,
                            agent,
                            connection: self.connection,
                            started: self.started,
                            booted: self.booted,
                        }));
                    }
                    self.handle(event.event).await?;
                }
                notice = notices.next() => {
                    if matches!(notice, Notice::Termination(_)) {
                        return self.interrupt().await;
                    }
                }
            }
        }
    }

    /// Shows an event on the way to readiness.
    async fn handle(&mut self, event: Event) -> Result<(), Report> {
        let progress = &mut self.progress;
        match event {
            Event::Preparing => progress.step("preparing the disk"),
            Event::Booting { accelerator } => {
                self.booted = true;
                progress.step(match accelerator {
                    Accelerator::Kvm => "booting: waiting for the kernel",
                    Accelerator::Tcg => "booting in emulation: waiting for the kernel",
                });
            }
            Event::Restoring => progress.step("restoring"),
            Event::KernelUp => progress.step("booting: waiting for the root file system"),
            Event::SystemdStarting => progress.step("booting: waiting for systemd"),
            Event::Waiting { reason } => progress.step(&format!("waiting for {reason}")),
            // Told to whoever started it.
            Event::Warning { .. } | Event::AliasNotIncluded if !self.started => {}
            Event::Warning { message } => {
                progress.suspend(|| self.context.printer.warning(message));
            }
            Event::AliasNotIncluded => {
                progress.suspend(|| tell_of_missing_include(self.context, &self.name));
            }
            Event::Failed(failure) => return Err(self.failed(failure).await),
            Event::Ended { .. } => {
                return Err(Report::new(
                    format!(
                        "the sandbox `{}` was stopped before it was ready",
                        self.name
                    ),
                    None,
                ));
            }
            Event::Ready { .. } | Event::Stopping | Event::Settled => {}
        }
        Ok(())
    }

    /// A failed start is reported when nothing is left of it.
    async fn failed(&mut self, failure: Failure) -> Report {
        self.until_ended().await;
        failure.into()
    }

    async fn until_ended(&mut self) {
        while let Ok(Some(event)) = self.connection.next_event().await {
            if matches!(event.event, Event::Ended { .. }) {
                break;
            }
        }
    }

    /// Ctrl-C: who started the sandbox takes it down again.
    async fn interrupt(mut self) -> Result<Start, Report> {
        if self.started {
            self.progress.step("stopping");
            if self
                .connection
                .ask(Request::stop(Duration::ZERO))
                .await
                .is_ok()
            {
                self.until_ended().await;
            }
        }
        Ok(Start::Interrupted)
    }

    /// The supervisor is gone without a word.
    fn lost(&self) -> Report {
        let log = self.layout.supervisor_log();
        let last_lines = sandbox::console::last_lines(&log, 10).unwrap_or_default();
        // Whatever it left is swept now rather than at the next start.
        drop(lifecycle::find(&self.context.directories, &self.name));
        Failure {
            message: format!("the supervisor of `{}` was killed", self.name),
            causes: Vec::new(),
            last_lines,
            hint: Some("try again; `sandbox doctor` checks this machine".into()),
        }
        .into()
    }
}
