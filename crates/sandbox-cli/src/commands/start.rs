//! Starting and joining a sandbox, with progress. Ctrl-C interrupts at any stage.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sandbox::{Event, Found, Host, Sandbox, SandboxBuilder};
use sandbox_host::files;
use sandbox_host::notices::{Notice, Notices};

use super::context::Context;
use crate::output::{Printer, Progress, Report, stage_words};

/// Starts or joins a sandbox. Returns `None` if the user interrupts. Nothing is left then.
pub(super) async fn start(
    context: &Context,
    builder: SandboxBuilder,
    notices: &mut Notices,
) -> Result<Option<Sandbox>, Report> {
    let reporter = Reporter::new(context);
    let listener = reporter.clone();
    let started = builder
        .on_event(move |event| listener.show(event))
        .start_until(terminated(notices))
        .await;
    reporter.finish();
    let sandbox = started?;
    if let Some(sandbox) = &sandbox {
        reporter.warn_of_missing_include(sandbox);
    }
    Ok(sandbox)
}

/// Waits until a sandbox of another command is ready. Returns `None` if the user interrupts.
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

/// Waits for Ctrl-C or another termination signal.
pub(super) async fn terminated(notices: &mut Notices) {
    while !matches!(notices.next().await, Notice::Termination(_)) {}
}

/// Prints the events of a start, an image build or a template build.
#[derive(Clone)]
pub(super) struct Reporter(Arc<Mutex<State>>);

struct State {
    host: Host,
    printer: Printer,
    progress: Option<Progress>,
    /// The text of the current stage.
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

    /// Warns that `ssh NAME` does not work. Prints the warning once per state directory.
    fn warn_of_missing_include(&self, sandbox: &Sandbox) {
        let state = self.state();
        let mark = state.host.directories().state.join("ssh-include-told");
        if !state.is_include_missing || mark.exists() || files::write_private(&mark, b"").is_err() {
            return;
        }
        state.printer.warning(format_args!(
            "`~/.ssh/config` does not include `~/.ssh/config.d/`: add the line `Include config.d/*.conf` at its top to make `ssh {}` work",
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
                    "image `{image}` is not stored yet: building it once, which takes some minutes"
                ));
            }),
            Event::ImageOutdated { image } => self.aside(|printer| {
                printer.notice(format_args!(
                    "image `{image}` was built from another version of its recipe (run `sandbox image build {image}` to update it)"
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
                    settings.iter().map(|name| format!("`--{name}`")).collect();
                self.aside(|printer| {
                    printer.warning(format_args!(
                        "the sandbox is already running; {} {} ignored (run `sandbox stop` first)",
                        flags.join(", "),
                        if flags.len() == 1 { "was" } else { "were" }
                    ));
                });
            }
            Event::CloudConfigIgnored { part } => self.aside(|printer| {
                printer.warning(format_args!("{part} in the cloud-config was ignored"));
            }),
            Event::TemplatesUnusable { reason } => self.aside(|printer| {
                printer.warning(format_args!("could not use templates: {reason}"));
            }),
            Event::AliasNotIncluded => self.is_include_missing = true,
            Event::Warning { message } => self.aside(|printer| printer.warning(message)),
            _ => {}
        }
    }

    /// Prints with the progress hidden.
    fn aside(&mut self, print: impl FnOnce(Printer)) {
        let printer = self.printer;
        match &mut self.progress {
            Some(progress) => progress.suspend(|| print(printer)),
            None => print(printer),
        }
    }

    /// Prints the duration of the stage, with `-v`.
    fn end_stage(&mut self) {
        if let Some(began) = self.stage_began.take() {
            let seconds = began.elapsed().as_secs_f64();
            self.aside(|printer| printer.detail(format_args!("  took {seconds:.2} s")));
        }
    }
}

/// Prints a warning of a plan.
pub(super) fn warn(printer: Printer, event: &Event) {
    match event {
        Event::Emulated(warning) => printer.warning(emulation(&warning.reason)),
        Event::CloudConfigIgnored { part } => {
            printer.warning(format_args!("{part} in the cloud-config was ignored"));
        }
        _ => {}
    }
}

fn emulation(reason: &str) -> String {
    format!(
        "the VM runs in software emulation, many times slower: {reason} (run `sandbox doctor` for the fix)"
    )
}

/// Returns whether this is the first warning of emulation since the host booted, and records it.
fn is_first_of_boot(state: &Path) -> bool {
    let mark = state.join("emulation-told");
    let Ok(boot) = std::fs::read("/proc/sys/kernel/random/boot_id") else {
        return true;
    };
    if std::fs::read(&mark).is_ok_and(|known| known == boot) {
        return false;
    }
    drop(files::write_private_volatile(&mark, &boot));
    true
}
