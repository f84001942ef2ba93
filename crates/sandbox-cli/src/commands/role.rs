//! A process that serves the other commands: a supervisor, or a template build.

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
        // A full disk must not end the supervisor by a panic about its log.
        .log_internal_errors(false)
        .with_filter(what_is_logged());
    tracing_subscriber::registry().with(log).init();
    program::run(inheritance).await?;
    Ok(ExitStatus::SUCCESS)
}

/// Everything from notices on, but of the DNS crates nothing: the guest decides how often they
/// have something to say.
fn what_is_logged() -> Targets {
    Targets::new().with_default(LevelFilter::INFO).with_targets(
        ["hickory_net", "hickory_proto", "hickory_resolver"].map(|of| (of, LevelFilter::OFF)),
    )
}
