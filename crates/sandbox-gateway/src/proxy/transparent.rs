//! The transparent proxy: connections to ports 80 and 443 of programs without proxy settings.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::context::ProxyContext;
use super::limits::CONNECT_DEADLINE;
use super::metered_stream::MeteredStream;
use super::refusal::Refusal;
use super::rewind::Rewind;
use super::route::Route;
use super::session::{ConnectionKind, Session};
use super::{client_hello, http, interception, tls_alert, tunnel};
use crate::access_log::{AskedBy, FlowStart};
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{Reason, RuleName, Transport};

/// Serves plain HTTP. Each request is for the host in its `Host` header.
pub(super) async fn http<S>(context: &Rc<ProxyContext>, guest: S, destination: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let kind = ConnectionKind::PlainHttp(destination);
    let session = Session::new(Rc::clone(context), kind, None);
    http::http1_with_websockets(guest, session).await;
}

/// Serves TLS. The connection is for the host in its ClientHello.
pub(super) async fn tls<S>(context: &Rc<ProxyContext>, mut guest: S, destination: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut first = Vec::new();
    let name = client_hello::read_server_name(&mut guest, &mut first).await;
    let guest = Rewind::new(first, guest);
    let name = match name {
        Ok(name) => name,
        Err(error) => {
            let refusal = Refusal::Hello(error);
            let flow = FlowStart::to_address(destination, Transport::Tcp);
            context
                .policy_engine
                .log_denied(flow, &refusal.rule(), refusal.reason());
            if let Some(alert) = refusal.alert() {
                tls_alert::send_fatal(guest, alert).await;
            }
            return;
        }
    };
    let route = route_by_sni(context, name, destination);
    if let Err(refusal) = route.check_destination() {
        return route.refuse_tls(guest, &refusal).await;
    }
    if context.intercepts_tls(&route.name) {
        return interception::serve(context, guest, route, None).await;
    }
    match route.connect().await {
        Ok((upstream, _)) => {
            let last = upstream.last_activity();
            tunnel::carry(guest, upstream, last, route.until_denied()).await;
        }
        Err(refusal) => route.refuse_tls(guest, &refusal).await,
    }
}

/// Serves TLS to an allowed address. Intercepts it for the hosts of secrets, and passes other TLS
/// on.
pub(super) async fn allowed_tls<S>(
    context: &Rc<ProxyContext>,
    mut guest: S,
    destination: SocketAddr,
    to: SocketAddr,
    rule: &RuleName,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut first = Vec::new();
    let name = client_hello::read_server_name(&mut guest, &mut first)
        .await
        .ok();
    let guest = Rewind::new(first, guest);
    let mut flow = FlowStart::to_address(destination, Transport::Tcp);
    if let Some(name) = name {
        if context.intercepts_tls(&name) {
            let route = route_by_sni(context, name, destination);
            return interception::serve(context, guest, route, None).await;
        }
        flow.name = Some(name);
    }
    let connecting = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(to));
    let Ok(Ok(upstream)) = connecting.await else {
        context
            .policy_engine
            .log_denied(flow, rule, Reason::Upstream);
        return;
    };
    // Nagle's algorithm gains nothing: the bytes come from another stream.
    let _ = upstream.set_nodelay(true);
    let upstream = MeteredStream::new(upstream, context.policy_engine.log_allowed(flow, rule));
    let last = upstream.last_activity();
    let denied = until_denied(context, destination);
    tunnel::carry(guest, upstream, last, denied).await;
}

/// Returns the route to the host that a ClientHello for `destination` names.
fn route_by_sni(context: &ProxyContext, name: DomainName, destination: SocketAddr) -> Route {
    Route {
        policy_engine: Rc::clone(&context.policy_engine),
        asked_by: AskedBy::Sni,
        name,
        port: destination.port(),
        destination: Some(destination),
    }
}

/// Ends when the policy denies the address.
async fn until_denied(context: &ProxyContext, destination: SocketAddr) {
    use crate::policy_engine::Destination;
    use sandbox_spec::policy::Verdict;

    let destination = Destination {
        address: destination.ip(),
        port: destination.port(),
        transport: Transport::Tcp,
    };
    let mut rechecks = context.policy_engine.rechecks();
    while rechecks.changed().await.is_ok() {
        if matches!(
            context.policy_engine.outbound(&destination),
            Verdict::Deny { .. }
        ) {
            return;
        }
    }
    // Without the policy engine, nothing can deny the connection.
    std::future::pending::<()>().await;
}
