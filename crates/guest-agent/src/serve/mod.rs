//! `guest-agent serve`: the service that answers the host while the guest runs.
//!
//! `main` calls [`run`]. This room opens the agent's port and serves one
//! conversation after the other. `execute` runs programs for it, the modules
//! beside this room carry out the other requests.

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

/// Pause between two attempts to open the port. It may not yet exist, or an
/// earlier agent may still hold it open.
const PORT_RETRY: Duration = Duration::from_millis(20);

/// Runs the subcommand. Returns only after an error.
pub(crate) fn run() -> ExitCode {
    let Err(error) = start();
    report::log(&format!("could not serve the host: {error}"));
    ExitCode::FAILURE
}

fn start() -> io::Result<std::convert::Infallible> {
    raise_descriptor_limit();
    // The host waits for answers while systemd handles the changes of a start.
    // Programs of the host run at the normal priority.
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

/// Raises the soft limit on descriptors, since the agent holds some for every
/// program. The programs themselves get the usual limit.
fn raise_descriptor_limit() {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    // After an error, fewer sessions are possible.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

async fn serve() -> io::Result<std::convert::Infallible> {
    let mut port = open_port().await;
    if quiesce::is_quiescent() {
        // It blocks for a while if the host has not opened the event port.
        tokio::task::spawn_blocking(|| events::send(&Event::Quiesced));
    }
    let places = Places::default();
    loop {
        port.connected().await?;
        // The host reports the errors of a conversation.
        if preamble::answer(&mut port).await.is_ok() {
            let _ = conversation::serve(&mut port, &places).await;
        }
    }
}

/// Waits for the port. A machine that was started by hand may get one later.
async fn open_port() -> Port {
    loop {
        match Port::open() {
            Ok(port) => return port,
            Err(_) => tokio::time::sleep(PORT_RETRY).await,
        }
    }
}
