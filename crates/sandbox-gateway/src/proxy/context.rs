//! The parts of the product that every connection of the proxy uses.

use std::rc::Rc;

use crate::interception::{Interceptor, Secrets};
use crate::policy_engine::PolicyEngine;
use sandbox_spec::domain::DomainName;

/// The policy engine and, if the sandbox has secrets, the TLS interceptor.
pub(super) struct ProxyContext {
    pub(super) policy_engine: Rc<PolicyEngine>,
    pub(super) interceptor: Option<Interceptor>,
}

impl ProxyContext {
    pub(super) fn secrets(&self) -> Option<&Secrets> {
        self.interceptor.as_ref().map(Interceptor::secrets)
    }

    /// Returns whether the proxy intercepts TLS to this host.
    pub(super) fn intercepts_tls(&self, name: &DomainName) -> bool {
        self.secrets().is_some_and(|secrets| secrets.apply_to(name))
    }
}
