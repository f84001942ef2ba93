//! Starting or joining a sandbox with progress, and with Ctrl-C at any stage.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sandbox::{Event, Found, Host, Sandbox, SandboxBuilder};
use sandbox_host::files;
use sandbox_host::notices::{Notice, Notices};

use super::context::Context;
use crate::output::{Printer, Progress, Report, stage_words};

/// Starts or joins a sandbox; `None` if the user interrupted that, and nothing is left.
pub(super) async fn start(
    context: &Context,
    wish: SandboxBuilder,
    notices: &mut Notices,
) -> Result<Option<Sandbox>, Report> {
    let reporter = Reporter::new(context);
    let listener = reporter.clone();
    let started = wish
        .on_event(move |event| listener.show(event))
        .start_until(terminated(notices))
        .await;
    reporter.finish();
    let sandbox = started?;
    if let Some(sandbox) = &sandbox {
        reporter.tell_of_missing_include(sandbox);
    }
    Ok(sandbox)
}

/// Waits until a sandbox that some command started is ready; `None` if the user interrupted that.
pub(super) async fn join(
    context: &Context,
    found: Found,
    notices: &mut Notices,
) -> Result<Option<Sandbox>, Report> {
    let reporter = Reporter::new(context);
    let listener = reporter.clone();
    let show = move |event: &Event| listener.show(event);
    let cancel = terminated(notices);
    let joined = Sandbox::connect_until(&context.host, found, show, cancel).await;
    reporter.finish();
    Ok(joined?)
}

/// Waits for Ctrl-C or another signal to end.
pub(super) async fn terminated(notices: &mut Notices) {
    while !matches!(notices.next().await, Notice::Termination(_)) {}
}

/// Shows what happens on the way to a running sandbox, an image or a template.
#[derive(Clone)]
pub(super) struct Reporter(Arc<Mutex<State>>);

struct State {
    host: Host,
    printer: Printer,
    progress: Option<Progress>,
    /// The words of the stage that is shown, and when it began.
    stage: String,
    stage_began: Option<Instant>,
    is_include_missing: bool,
}

impl Reporter {
    pub(super) fn new(context: &Context) -> Self {
        Self(Arc::new(Mutex::new(State {
            host: context.host.clone(),
            printer: context.printer,
            progress: None,
            stage: String::new(),
            stage_began: None,
            is_include_missing: false,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows one event.
    pub(super) fn show(&self, event: &Event) {
        self.state().show(event);
    }

    /// Ends the progress.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.end_stage();
        if let Some(progress) = state.progress.take() {
            progress.finish();
        }
    }

    /// Says once, ever, how to make the aliases work.
    fn tell_of_missing_include(&self, sandbox: &Sandbox) {
        let state = self.state();
        let told = state.host.directories().state.join("ssh-include-told");
        if !state.is_include_missing || told.exists() || files::write_private(&told, b"").is_err() {
            return;
        }
        state.printer.warning(format_args!(
            "`~/.ssh/config` does not include `~/.ssh/config.d/`: put the line `Include config.d/*.conf` at its top to make `ssh {}` work",
            sandbox.name()
        ));
    }
}

impl State {
    fn show(&mut self, event: &Event) {
        let printer = self.printer;
        match event {
            Event::Stage(stage) => {
                let (words, detail) = stage_words(stage);
                if words != self.stage {
                    self.end_stage();
                    self.stage_began = Some(Instant::now());
                    words.clone_into(&mut self.stage);
                }
                let progress = self.progress.get_or_insert_with(|| printer.progress());
                progress.step(&words);
                if let Some(detail) = detail {
                    progress.detail(&detail);
                }
            }
            Event::ImageMissing { image } => self.aside(|printer| {
                printer.notice(format_args!(
                    "the image `{image}` is not stored yet: building it from its recipe, once, in some minutes"
                ));
            }),
            Event::ImageOutdated { image } => self.aside(|printer| {
                printer.notice(format_args!(
                    "the image `{image}` was built from another version of its recipe; `sandbox image build {image}` renews it"
                ));
            }),
            Event::Emulated(warning) => {
                if is_first_of_boot(&self.host.directories().state) {
                    self.aside(|printer| {
                        printer.warning(emulation(&warning.reason));
                    });
                } else {
                    self.aside(|printer| printer.detail(format_args!("software emulation: {}", warning.reason)));
                }
            }
            Event::SettingsIgnored { settings } => {
                let flags: Vec<String> =
                    settings.iter().map(|name| format!("--{name}")).collect();
                self.aside(|printer| {
                    printer.warning(format_args!(
                        "the sandbox runs already, with another value of {}; `sandbox stop` first to change that",
                        flags.join(", ")
                    ));
                });
            }
            Event::CloudConfigIgnored { part } => self.aside(|printer| {
                printer.warning(format_args!("of the cloud-config, {part} is not taken"));
            }),
            Event::TemplatesUnusable { reason } => self.aside(|printer| {
                printer.warning(format_args!("templates cannot be used: {reason}"));
            }),
            Event::AliasNotIncluded => self.is_include_missing = true,
            Event::Warning { message } => self.aside(|printer| printer.warning(message)),
            _ => {}
        }
    }

    /// Prints beside the progress.
    fn aside(&mut self, print: impl FnOnce(Printer)) {
        let printer = self.printer;
        match &mut self.progress {
            Some(progress) => progress.suspend(|| print(printer)),
            None => print(printer),
        }
    }

    /// Says how long the stage took, with `-v`.
    fn end_stage(&mut self) {
        if let Some(began) = self.stage_began.take() {
            let seconds = began.elapsed().as_secs_f64();
            self.aside(|printer| printer.detail(format_args!("  took {seconds:.2} s")));
        }
    }
}

/// Prints a warning that a plan gives.
pub(super) fn warn(printer: Printer, event: &Event) {
    match event {
        Event::Emulated(warning) => printer.warning(emulation(&warning.reason)),
        Event::CloudConfigIgnored { part } => {
            printer.warning(format_args!("of the cloud-config, {part} is not taken"));
        }
        _ => {}
    }
}

fn emulation(reason: &str) -> String {
    format!(
        "the VM runs in software emulation, many times slower: {reason} (`sandbox doctor` says what mends it)"
    )
}

/// Whether this is the first start since the host booted that warns of emulation.
fn is_first_of_boot(state: &Path) -> bool {
    let told = state.join("emulation-told");
    let Ok(boot) = std::fs::read("/proc/sys/kernel/random/boot_id") else {
        return true;
    };
    if std::fs::read(&told).is_ok_and(|known| known == boot) {
        return false;
    }
    drop(files::write_private_volatile(&told, &boot));
    true
}
