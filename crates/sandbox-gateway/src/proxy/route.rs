//! One host that the guest wants to reach by name, and the policy engine's answers about it.

use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::metered_stream::MeteredStream;
use super::refusal::Refusal;
use super::tls_alert;
use crate::access_log::{AskedBy, FlowStart};
use crate::policy_engine::{DialError, PolicyEngine};
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{NamedVerdict, RuleName, Transport};

/// A name and a port, and by which way they are reached.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) policy_engine: Rc<PolicyEngine>,
    pub(super) asked_by: AskedBy,
    pub(super) name: DomainName,
    pub(super) port: u16,
    /// The address that the guest connected to; `None`: the name is resolved here.
    pub(super) destination: Option<SocketAddr>,
}

impl Route {
    /// What allows the name at this moment, its addresses aside.
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

    /// In proxy mode, the guest's address must be one that DNS gave it for the name: whoever may
    /// reach a name may not reach every other host by claiming that name.
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

    /// Whether an open connection to `address` may still be used.
    pub(super) fn still_allowed(&self, address: SocketAddr) -> bool {
        let address = SocketAddr::new(address.ip(), self.port);
        self.allowed().is_ok() && self.policy_engine.reach(&self.name, address).is_ok()
    }

    /// Connects to the host, whose addresses are checked now, and begins its line in the log.
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
            DialError::Denied { rule, reason } => Refusal::Denied {
                name: self.name.clone(),
                port: self.port,
                rule,
                reason,
            },
            other => self.upstream_failed(&other),
        }
    }

    /// The refusal of a host that does not do its part.
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

    /// How the log names it.
    pub(super) fn flow_start(&self) -> FlowStart {
        let flow = FlowStart::to_name(self.asked_by, self.name.clone(), self.port, Transport::Tcp);
        match self.destination {
            Some(destination) => flow.at(destination.ip()),
            None => flow,
        }
    }

    /// Logs that a request or a connection by this way was refused.
    pub(super) fn log_denied(&self, refusal: &Refusal) {
        let mut flow = self.flow_start();
        if let Refusal::OtherName { found } = refusal {
            flow.name = Some(found.clone());
        }
        let rule = match refusal {
            // It was allowed; only nothing came of it.
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

    /// Ends when connections by this way must.
    pub(super) async fn until_denied(&self) {
        let mut rechecks = self.policy_engine.rechecks();
        loop {
            if rechecks.changed().await.is_err() {
                // The policy engine itself is gone, and with it whoever could cut.
                std::future::pending::<()>().await;
            }
            if self.allowed().is_err() {
                return;
            }
        }
    }
}
