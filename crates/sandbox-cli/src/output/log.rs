//! Log events of the library as lines on stderr.

use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::Printer;

/// The crates of this workspace. Log events of other crates are not for users.
const TARGETS: [&str; 8] = [
    "sandbox",
    "sandbox_cli",
    "sandbox_gateway",
    "sandbox_host",
    "sandbox_protocol",
    "sandbox_qemu",
    "sandbox_spec",
    "sandbox_store",
];

/// Prints warnings of the library, and its details with `-v`.
pub(crate) fn log_to(printer: Printer) {
    let level = match (printer.is_quiet(), printer.is_verbose()) {
        (true, _) => return,
        (false, true) => LevelFilter::DEBUG,
        (false, false) => LevelFilter::WARN,
    };
    let targets = Targets::new().with_targets(TARGETS.map(|target| (target, level)));
    // Fails only in tests, where a subscriber is already set.
    let _ = tracing_subscriber::registry()
        .with(Lines(printer).with_filter(targets))
        .try_init();
}

/// Prints one line per event.
struct Lines(Printer);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = EventText::default();
        event.record(&mut text);
        let EventText { message, fields } = text;
        match *event.metadata().level() {
            Level::ERROR | Level::WARN => self.0.warning(format_args!("{message}{fields}")),
            _ => self.0.detail(format_args!("{message}{fields}")),
        }
    }
}

/// The message of an event, and its fields after semicolons.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "; {name}: {value:?}"),
        };
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        let _ = write!(self.fields, "; {}: {text}", field.name());
    }
}
