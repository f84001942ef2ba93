//! What the library logs, for the person.

use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::Printer;

/// The crates of this product; what others log is nobody's business here.
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

/// Has warnings of the library printed, and with `-v` its details.
pub(crate) fn log_to(printer: Printer) {
    let level = match (printer.is_quiet(), printer.is_verbose()) {
        (true, _) => return,
        (false, true) => LevelFilter::DEBUG,
        (false, false) => LevelFilter::WARN,
    };
    let targets = Targets::new().with_targets(TARGETS.map(|target| (target, level)));
    // There is one already only in tests.
    let _ = tracing_subscriber::registry()
        .with(Lines(printer).with_filter(targets))
        .try_init();
}

/// A line an event.
struct Lines(Printer);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let Words { message, fields } = words;
        match *event.metadata().level() {
            Level::ERROR | Level::WARN => self.0.warning(format_args!("{message}{fields}")),
            _ => self.0.detail(format_args!("{message}{fields}")),
        }
    }
}

/// The message of an event, and its fields in parentheses.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
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
