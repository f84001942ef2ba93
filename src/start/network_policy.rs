//! What the guest may reach, as a program says it.

use sandbox_spec::domain::{DomainError, DomainPattern};
use sandbox_spec::policy::{Preset, Rule, RuleError};

use crate::options::StartOptions;

/// What the guest may reach. The default is the internet, but neither this machine nor its networks.
#[derive(Debug, Clone, Default)]
pub struct NetworkPolicy {
    preset: Preset,
    rules: Vec<Rule>,
    proxy: bool,
    allowlist: Vec<DomainPattern>,
}

impl NetworkPolicy {
    /// Nothing.
    pub fn none() -> Self {
        Self {
            preset: Preset::None,
            ..Self::default()
        }
    }

    /// Public addresses: the internet, but neither this machine nor its networks.
    pub fn public() -> Self {
        Self::default()
    }

    /// Public and private addresses, but not this machine.
    pub fn private() -> Self {
        Self {
            preset: Preset::Private,
            ..Self::default()
        }
    }

    /// Everything, this machine included.
    pub fn all() -> Self {
        Self {
            preset: Preset::All,
            ..Self::default()
        }
    }

    /// HTTP and HTTPS to the domains that [`allow_domain`](Self::allow_domain) names, and nothing
    /// else.
    pub fn proxy() -> Self {
        Self {
            proxy: true,
            ..Self::default()
        }
    }

    /// Allows a domain in proxy mode: `example.com` that name alone, `*.example.com` its
    /// subdomains, `.example.com` both.
    ///
    /// # Errors
    /// Where that is not a domain.
    pub fn allow_domain(mut self, pattern: &str) -> Result<Self, DomainError> {
        self.allowlist.push(pattern.parse()?);
        Ok(self)
    }

    /// Adds a rule that comes before the preset, such as `allow@10.1.2.3:tcp:443`. The first that
    /// matches wins.
    ///
    /// # Errors
    /// Where that is not a rule.
    pub fn rule(mut self, rule: &str) -> Result<Self, RuleError> {
        self.rules.push(rule.parse()?);
        Ok(self)
    }

    /// Says all this in the options of a start. Gives the allowlist of proxy mode.
    pub(super) fn apply(self, options: &mut StartOptions) -> Option<Vec<DomainPattern>> {
        options.network = Some(self.preset);
        options.net_rules = self.rules;
        options.proxy = Some(self.proxy);
        self.proxy.then_some(self.allowlist)
    }
}
