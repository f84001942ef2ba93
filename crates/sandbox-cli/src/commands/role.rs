//! A process that serves other commands: a supervisor or a template build.

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{ExitStatus, Outcome};
use sandbox::program::{self, Inheritance};

pub(super) async fn run(inheritance: Inheritance) -> Outcome {
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // On a full disk, a failed log write must not end the supervisor with a panic.
        .log_internal_errors(false)
        .with_filter(log_targets());
    tracing_subscriber::registry().with(log).init();
    program::run(inheritance).await?;
    Ok(ExitStatus::SUCCESS)
}

/// Returns the log filter. It drops events of the DNS crates, since the guest controls their
/// number.
fn log_targets() -> Targets {
    Targets::new().with_default(LevelFilter::INFO).with_targets(
        ["hickory_net", "hickory_proto", "hickory_resolver"]
            .map(|target| (target, LevelFilter::OFF)),
    )
}
