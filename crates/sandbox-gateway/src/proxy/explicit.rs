//! The explicit HTTP proxy.

use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::client_hello::{self, ClientHelloError};
use super::context::ProxyContext;
use super::refusal::Refusal;
use super::rewind::Rewind;
use super::route::Route;
use super::session::{Session, Upgrade};
use super::{http, interception, tunnel};
use sandbox_spec::domain::DomainName;

/// Serves HTTP/1, then the tunnel of CONNECT or the bytes of a WebSocket.
pub(super) async fn serve<S>(context: &Rc<ProxyContext>, guest: S, session: Rc<Session>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match http::http1(guest, &session).await {
        Some((Upgrade::WebSocket { route, upstream }, guest)) => {
            tunnel::carry(guest, upstream.stream, upstream.last, route.until_denied()).await;
        }
        Some((
            Upgrade::Connect {
                route,
                upstream,
                address,
            },
            mut guest,
        )) => {
            let mut first = Vec::new();
            let name = client_hello::read_server_name(&mut guest, &mut first).await;
            let guest = Rewind::new(first, guest);
            match check_same_name(&route, name) {
                Err(refusal) => route.refuse_tls(guest, &refusal).await,
                Ok(()) if context.intercepts_tls(&route.name) => {
                    interception::serve(context, guest, route, Some((*upstream, address))).await;
                }
                Ok(()) => {
                    let last = upstream.last_activity();
                    tunnel::carry(guest, upstream, last, route.until_denied()).await;
                }
            }
        }
        None => {}
    }
}

/// Checks that the ClientHello in a tunnel names the tunnel's host.
fn check_same_name(
    route: &Route,
    name: Result<DomainName, ClientHelloError>,
) -> Result<(), Refusal> {
    let found = name.map_err(Refusal::Hello)?;
    if found == route.name {
        return Ok(());
    }
    Err(Refusal::OtherName { found })
}
