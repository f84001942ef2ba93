//! The state of the policy engine, and its access log.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use tokio::sync::watch;

use super::config::{Mode, PolicyEngineConfig};
use crate::access_log::{AccessLog, FlowEntry, FlowStart};
use crate::allowlist::ReloadingList;
use crate::error::NetworkError;
use crate::host_addresses::HostAddresses;
use crate::names::Names;
use crate::resolver::Resolver;
use sandbox_spec::address::AddressKind;
use sandbox_spec::domain::{DomainName, DomainPattern};
use sandbox_spec::guest_network::GUEST;
use sandbox_spec::policy::{Peer, Policy, Reason, RuleName};

/// The name by which the guest reaches its host.
pub const HOST_NAME: &str = "host.sandbox.internal";
/// The domain of the product's own names. The engine answers for it and never queries a resolver.
const OWN_DOMAIN: &str = "sandbox.internal";

/// The most patterns that are allowed until the sandbox stops.
const MOST_ONCE: usize = 1024;

/// The policy engine of one sandbox. It lives on the gateway's thread.
pub struct PolicyEngine {
    pub(super) policy: Policy,
    pub(super) list: Option<ReloadingList>,
    pub(super) once: RefCell<Vec<DomainPattern>>,
    pub(super) names: RefCell<Names>,
    hosts: HostAddresses,
    pub(super) resolver: Resolver,
    log: Rc<AccessLog>,
    rechecks: watch::Sender<u64>,
    pub(super) ipv6: bool,
    pub(super) host_name: DomainName,
    pub(super) own_domain: DomainName,
}

impl PolicyEngine {
    /// Opens the access log, and reads the allowlist and the host's addresses.
    ///
    /// # Errors
    /// If the log cannot be opened or the host's addresses cannot be read.
    pub fn new(config: PolicyEngineConfig) -> Result<Rc<Self>, NetworkError> {
        let hosts = HostAddresses::of_system().map_err(NetworkError::HostAddresses)?;
        let resolver = Resolver::new(config.dns);
        Self::with_host(config, hosts, resolver)
    }

    /// Returns an engine with other host addresses and another resolver.
    ///
    /// # Errors
    /// If the access log cannot be opened.
    pub fn with_host(
        config: PolicyEngineConfig,
        hosts: HostAddresses,
        resolver: Resolver,
    ) -> Result<Rc<Self>, NetworkError> {
        Ok(Rc::new(Self {
            policy: config.policy,
            list: match config.mode {
                Mode::Open => None,
                Mode::Proxy { allowlist } => Some(ReloadingList::new(allowlist)),
            },
            once: RefCell::default(),
            names: RefCell::default(),
            hosts,
            resolver,
            log: AccessLog::open(&config.log_directory)?,
            rechecks: watch::Sender::new(0),
            ipv6: config.ipv6,
            own_domain: OWN_DOMAIN
                .parse()
                .expect("the product's domain is a domain name"),
            host_name: HOST_NAME.parse().expect("the host's name is a domain name"),
        }))
    }

    /// Returns whether the engine decides by name.
    pub fn is_proxy_mode(&self) -> bool {
        self.list.is_some()
    }

    /// Starts the log line of an allowed flow.
    pub fn log_allowed(&self, flow: FlowStart, rule: &RuleName) -> FlowEntry {
        FlowEntry::begin(&self.log, flow, rule)
    }

    /// Writes the log line of a denial. Suppresses some of very many.
    pub fn log_denied(&self, flow: FlowStart, rule: &RuleName, reason: Reason) {
        self.log.denied(flow, rule, reason);
    }

    /// Returns a receiver that changes when open connections must be checked again. The owner of a
    /// connection then asks the engine again, and closes the connection if it is denied.
    pub fn rechecks(&self) -> watch::Receiver<u64> {
        self.rechecks.subscribe()
    }

    /// Signals [`PolicyEngine::rechecks`]. The next lookup checks the allowlist's file, because a
    /// command has usually just edited it.
    pub fn recheck_connections(&self) {
        if let Some(list) = &self.list {
            list.check_now();
        }
        self.rechecks.send_modify(|count| *count += 1);
    }

    /// Allows a pattern until the sandbox stops, in addition to the allowlist. Beyond 1024
    /// patterns, a new one replaces the oldest.
    pub fn allow_until_stop(&self, pattern: DomainPattern) {
        let mut once = self.once.borrow_mut();
        if !once.contains(&pattern) {
            if once.len() >= MOST_ONCE {
                once.remove(0);
            }
            once.push(pattern);
        }
    }

    /// Returns whether the gateway's DNS resolved `name` to `address`, and the answer is still
    /// valid.
    pub fn resolved_to(&self, name: &DomainName, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if *name == self.host_name {
            return self.hosts.classify(address) == AddressKind::Gateway;
        }
        self.names.borrow().contains(name, address)
    }

    /// Returns the names that the gateway's DNS resolved to `address`, if the answer is still
    /// valid.
    pub fn names_of(&self, address: IpAddr) -> Vec<DomainName> {
        self.names
            .borrow()
            .of(address.to_canonical())
            .cloned()
            .collect()
    }

    pub(super) fn peer(&self, address: IpAddr) -> Peer {
        let asked = address.to_canonical();
        let kind = self.hosts.classify(asked);
        let reached = match (kind, asked) {
            (AddressKind::Gateway, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (AddressKind::Gateway, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
            _ => asked,
        };
        Peer {
            asked,
            reached,
            kind,
        }
    }

    pub(super) fn guest(port: u16) -> SocketAddr {
        (GUEST, port).into()
    }
}
