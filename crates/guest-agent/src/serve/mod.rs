//! `guest-agent serve`: the one service that answers the host, as long as the
//! machine runs.

mod conversation;
mod port;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;
use std::{io, thread};

use rustix::process::{Resource, Rlimit};
use sandbox_protocol::agent::preamble;

use self::port::Port;
use crate::events::{self, Event};
use crate::execute::Places;
use crate::{power, quiesce, ready, report};

/// How long to wait for a port that is not there, or that a predecessor has
/// not closed yet.
const PORT_RETRY: Duration = Duration::from_millis(20);

/// Runs the subcommand; ends only with an error.
pub(crate) fn run() -> ExitCode {
    let Err(error) = start();
    report::say(&format!("could not serve the host: {error}"));
    ExitCode::FAILURE
}

fn start() -> io::Result<std::convert::Infallible> {
    raise_descriptor_limit();
    // The host waits for its answers while systemd is busy with what a start
    // changes. Programs that are started get the usual priority.
    let _ = rustix::process::setpriority_process(None, -10);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::spawn(power::watch());
        if !quiesce::is_quiescent() {
            thread::Builder::new()
                .name("ready".into())
                .spawn(ready::run)?;
        }
        serve().await
    })
}

/// Every program has some; those that are started get the usual limit.
fn raise_descriptor_limit() {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    // Fewer sessions are possible without it.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

async fn serve() -> io::Result<std::convert::Infallible> {
    let mut port = open_port().await;
    if quiesce::is_quiescent() {
        // Waits for the port's other side, so not on this thread.
        tokio::task::spawn_blocking(|| events::send(&Event::Quiesced));
    }
    let places = Places::default();
    loop {
        port.connected().await?;
        // What breaks a conversation off is for the host to tell.
        if preamble::answer(&mut port).await.is_ok() {
            let _ = conversation::serve(&mut port, &places).await;
        }
    }
}

/// A machine that was started by hand has no port, and may get one.
async fn open_port() -> Port {
    loop {
        match Port::open() {
            Ok(port) => return port,
            Err(_) => tokio::time::sleep(PORT_RETRY).await,
        }
    }
}
