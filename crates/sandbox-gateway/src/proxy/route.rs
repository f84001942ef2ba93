//! A route to a host by its name, and the policy engine's decisions about it.

use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::metered_stream::MeteredStream;
use super::refusal::Refusal;
use super::tls_alert;
use crate::access_log::{AskedBy, FlowStart};
use crate::policy_engine::{DialError, PolicyEngine, ResolveError};
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{NamedVerdict, RuleName, Transport};

/// A destination by name: for one connection or one request of the guest.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) policy_engine: Rc<PolicyEngine>,
    pub(super) asked_by: AskedBy,
    pub(super) name: DomainName,
    pub(super) port: u16,
    /// The address to which the guest connected. `None` if the gateway resolves the name.
    pub(super) destination: Option<SocketAddr>,
}

impl Route {
    /// Returns the rule that currently allows the name, before its address is known.
    pub(super) fn allowed(&self) -> Result<RuleName, Refusal> {
        match self.policy_engine.named(&self.name, self.port) {
            NamedVerdict::Allow { rule } => Ok(rule),
            NamedVerdict::Deny { rule, reason } => Err(Refusal::Denied {
                name: self.name.clone(),
                port: self.port,
                rule,
                reason,
            }),
        }
    }

    /// Checks the name and, in proxy mode, that the gateway's DNS resolved it to the guest's
    /// destination. Otherwise the guest could reach any host under an allowed name.
    pub(super) fn check_destination(&self) -> Result<(), Refusal> {
        self.allowed()?;
        match self.destination {
            Some(destination)
                if self.policy_engine.is_proxy_mode()
                    && !self.policy_engine.resolved_to(&self.name, destination.ip()) =>
            {
                Err(Refusal::OtherAddress {
                    name: self.name.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether an open connection to `address` is still allowed.
    pub(super) fn still_allowed(&self, address: SocketAddr) -> bool {
        let address = SocketAddr::new(address.ip(), self.port);
        self.allowed().is_ok() && self.policy_engine.reach(&self.name, address).is_ok()
    }

    /// Connects to the host at an allowed address, and starts its log line.
    pub(super) async fn connect(&self) -> Result<(MeteredStream<TcpStream>, SocketAddr), Refusal> {
        let rule = self.allowed()?;
        let dialled = match self.destination {
            Some(destination) => {
                self.policy_engine
                    .dial_address(&self.name, destination)
                    .await
            }
            None => self.policy_engine.dial(&self.name, self.port).await,
        };
        let (stream, address) = dialled.map_err(|error| self.dial_refusal(error))?;
        let flow = self
            .policy_engine
            .log_allowed(self.flow_start().at(address.ip()), &rule);
        Ok((MeteredStream::new(stream, flow), address))
    }

    fn dial_refusal(&self, error: DialError) -> Refusal {
        match error {
            DialError::Resolve(ResolveError::Denied { rule, reason }) => Refusal::Denied {
                name: self.name.clone(),
                port: self.port,
                rule,
                reason,
            },
            other => self.upstream_failed(&other),
        }
    }

    /// Returns the refusal for an error of the host, with all causes.
    pub(super) fn upstream_failed(&self, error: &(dyn Error + 'static)) -> Refusal {
        let chain = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| {
            (*error).source()
        });
        let causes: Vec<String> = chain.map(ToString::to_string).collect();
        Refusal::Upstream {
            name: self.name.clone(),
            error: causes.join(": "),
        }
    }

    /// Returns the flow for the access log.
    pub(super) fn flow_start(&self) -> FlowStart {
        let flow = FlowStart::to_name(self.asked_by, self.name.clone(), self.port, Transport::Tcp);
        match self.destination {
            Some(destination) => flow.at(destination.ip()),
            None => flow,
        }
    }

    /// Logs the denial of a request or a connection.
    pub(super) fn log_denied(&self, refusal: &Refusal) {
        let mut flow = self.flow_start();
        if let Refusal::OtherName { found } = refusal {
            flow.name = Some(found.clone());
        }
        let rule = match refusal {
            // A rule allowed it, and the host failed.
            Refusal::Upstream { .. } => self.allowed().unwrap_or_else(|_| refusal.rule()),
            _ => refusal.rule(),
        };
        self.policy_engine.log_denied(flow, &rule, refusal.reason());
    }

    /// Logs the refusal of a TLS connection, sends the alert for it and closes the connection.
    pub(super) async fn refuse_tls<S>(&self, guest: S, refusal: &Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.log_denied(refusal);
        if let Some(alert) = refusal.alert() {
            tls_alert::send_fatal(guest, alert).await;
        }
    }

    /// Ends when the policy denies open connections to the host.
    pub(super) async fn until_denied(&self) {
        let mut rechecks = self.policy_engine.rechecks();
        loop {
            if rechecks.changed().await.is_err() {
                // Without the policy engine, nothing can deny the connection.
                std::future::pending::<()>().await;
            }
            if self.allowed().is_err() {
                return;
            }
        }
    }
}
