//! The route of a request.

use std::net::SocketAddr;
use std::rc::Rc;

use super::{ConnectionKind, HTTP_PORT, HTTPS_PORT, Session};
use crate::access_log::AskedBy;
use crate::proxy::authority::{Authority, Host};
use crate::proxy::refusal::Refusal;
use crate::proxy::route::Route;
use crate::proxy::target::{Form, Target};
use sandbox_spec::domain::DomainName;

impl Session {
    /// Returns the route of a request.
    ///
    /// # Errors
    ///
    /// If the connection does not accept the request.
    pub(super) fn route(&self, target: &Target) -> Result<Route, Refusal> {
        let name = || match &target.authority.host {
            Host::Name(name) => Ok(name.clone()),
            Host::Address(address) => Err(Refusal::Address(Some(*address))),
            Host::Number(_) => Err(Refusal::Address(None)),
        };
        let port = target.authority.port;
        match (&self.kind, target.form) {
            (ConnectionKind::ExplicitProxy, Form::Connect) => {
                Ok(self.name_route(AskedBy::Connect, name()?, port.unwrap_or(HTTPS_PORT), None))
            }
            (ConnectionKind::ExplicitProxy, Form::Absolute) => {
                Ok(self.name_route(AskedBy::Http, name()?, port.unwrap_or(HTTP_PORT), None))
            }
            (ConnectionKind::ExplicitProxy, Form::Origin) => Err(Refusal::Malformed(
                "this is an HTTP proxy: the request must name its host, as in `GET http://example.com/`",
            )),
            (_, Form::Connect) => Err(Refusal::Malformed("CONNECT is for the explicit proxy only")),
            (ConnectionKind::PlainHttp(destination), _) => {
                let name = name()?;
                let port = port.unwrap_or(HTTP_PORT);
                if port != destination.port() {
                    return Err(Refusal::Malformed("the Host header names another port"));
                }
                let route = self.name_route(AskedBy::Http, name, port, Some(*destination));
                route.check_destination()?;
                Ok(route)
            }
            (ConnectionKind::InterceptedTls { route, .. }, _) => {
                let same_port = port.unwrap_or(HTTPS_PORT) == route.port;
                if same_port && target.authority.host == Host::Name(route.name.clone()) {
                    return Ok(route.clone());
                }
                Err(Refusal::Mismatch {
                    expected: route.name.to_string(),
                    found: shown(&target.authority),
                })
            }
        }
    }

    fn name_route(
        &self,
        asked_by: AskedBy,
        name: DomainName,
        port: u16,
        destination: Option<SocketAddr>,
    ) -> Route {
        Route {
            policy_engine: Rc::clone(&self.context.policy_engine),
            asked_by,
            name,
            port,
            destination,
        }
    }
}

fn shown(authority: &Authority) -> String {
    let host = match &authority.host {
        Host::Name(name) => name.to_string(),
        Host::Address(address) => address.to_string(),
        Host::Number(number) => number.clone(),
    };
    match authority.port {
        Some(port) => format!("{host} port {port}"),
        None => host,
    }
}
