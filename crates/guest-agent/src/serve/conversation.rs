//! One conversation with the host: its streams and their requests.

use std::io;
use std::time::Duration;

use sandbox_protocol::agent::frame::{GuestFrame, HostFrame};
use sandbox_protocol::agent::message::{Refusal, Request, Response};
use sandbox_protocol::agent::mux::{Incoming, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::channel::{self, ToHost};
use crate::execute::{self, Places};
use crate::programs::AGENT_PATH;
use crate::{flush, kernel, personalize, quiesce, report, settle, status};

/// How long this agent waits for the host to close a stream after the last
/// answer. By then the port has the answer in any case.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves streams until the conversation ends. The tasks of open streams notice
/// the end themselves.
pub(super) async fn serve<S>(stream: S, places: &Places) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut incoming = Incoming::new(stream);
    while let Some(stream) = incoming.next().await? {
        tokio::spawn(serve_stream(stream, places.clone()));
    }
    Ok(())
}

async fn serve_stream(stream: Stream, places: Places) {
    let (mut from_host, mut to_host) = channel::split(stream);
    let Some(HostFrame::Request(request)) = from_host.next().await else {
        return;
    };
    match request {
        Request::Execute(request) => {
            execute::run(request, &mut from_host, &mut to_host, &places).await;
        }
        Request::SetClock(wall_clock_ns) => {
            let response = match kernel::set_clock(wall_clock_ns, Duration::ZERO) {
                Ok(()) => Response::Done,
                Err(error) => {
                    Response::Refused(Refusal::Failed(format!("could not set the clock: {error}")))
                }
            };
            respond(&mut to_host, response).await;
        }
        Request::Flush => {
            respond(
                &mut to_host,
                blocking(flush::run, |()| Response::Done).await,
            )
            .await;
        }
        Request::Status => {
            respond(&mut to_host, blocking(status::read, Response::Status).await).await;
        }
        Request::Start(start) => {
            let mut plan = None;
            let response = blocking(
                || personalize::run(start),
                |value| {
                    plan = value;
                    Response::Done
                },
            )
            .await;
            let is_done = response == Response::Done;
            respond(&mut to_host, response).await;
            if is_done {
                settle::spawn(plan);
            }
        }
        Request::Quiesce => {
            let response = blocking(quiesce::run, |()| Response::Done).await;
            let is_done = response == Response::Done;
            respond(&mut to_host, response).await;
            if is_done {
                to_host.close().await;
                let _ = timeout(CLOSE_TIMEOUT, from_host.next()).await;
                let error = quiesce::restart_agent();
                report::log(&format!("could not execute `{AGENT_PATH}`: {error}"));
                std::process::exit(1);
            }
        }
    }
    to_host.close().await;
}

/// Runs slow work on its own thread and converts its result.
async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
    response: impl FnOnce(T) -> Response,
) -> Response
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => response(value),
        Ok(Err(error)) => Response::Refused(Refusal::Failed(report::chain(&error))),
        Err(error) => Response::Refused(Refusal::Failed(error.to_string())),
    }
}

async fn respond(to_host: &mut ToHost, response: Response) {
    // The host may have closed the stream.
    let _ = to_host.send(GuestFrame::Response(response)).await;
}
