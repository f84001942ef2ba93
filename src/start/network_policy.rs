//! The network policy of a sandbox.

use sandbox_spec::domain::{DomainError, DomainPattern};
use sandbox_spec::policy::{Preset, Rule, RuleError};

use crate::options::StartOptions;

/// The destinations that the guest may reach. The default is [`public`](Self::public).
#[derive(Debug, Clone, Default)]
pub struct NetworkPolicy {
    preset: Preset,
    rules: Vec<Rule>,
    proxy: bool,
    allowlist: Vec<DomainPattern>,
}

impl NetworkPolicy {
    /// Denies all destinations.
    pub fn none() -> Self {
        Self {
            preset: Preset::None,
            ..Self::default()
        }
    }

    /// Allows public addresses: the internet, but neither this host nor its networks.
    pub fn public() -> Self {
        Self::default()
    }

    /// Allows public and private addresses, but not this host.
    pub fn private() -> Self {
        Self {
            preset: Preset::Private,
            ..Self::default()
        }
    }

    /// Allows all destinations, including this host.
    pub fn all() -> Self {
        Self {
            preset: Preset::All,
            ..Self::default()
        }
    }

    /// Allows HTTP and HTTPS to the domains of [`allow_domain`](Self::allow_domain) only.
    pub fn proxy() -> Self {
        Self {
            proxy: true,
            ..Self::default()
        }
    }

    /// Allows a domain in proxy mode: `example.com` for that name only, `*.example.com` for its
    /// subdomains, `.example.com` for both.
    ///
    /// # Errors
    /// Fails if `pattern` is not a domain pattern.
    pub fn allow_domain(mut self, pattern: &str) -> Result<Self, DomainError> {
        self.allowlist.push(pattern.parse()?);
        Ok(self)
    }

    /// Adds a rule that precedes the preset, such as `allow@10.1.2.3:tcp:443`. The first rule that
    /// matches wins.
    ///
    /// # Errors
    /// Fails if `rule` is not a rule.
    pub fn rule(mut self, rule: &str) -> Result<Self, RuleError> {
        self.rules.push(rule.parse()?);
        Ok(self)
    }

    /// Sets the policy in the options of a start. Returns the allowlist of proxy mode.
    pub(super) fn apply(self, options: &mut StartOptions) -> Option<Vec<DomainPattern>> {
        options.network = Some(self.preset);
        options.net_rules = self.rules;
        options.proxy = Some(self.proxy);
        self.proxy.then_some(self.allowlist)
    }
}
