//! A policy engine with an allowlist, an access log and a resolver on the loopback.

mod dns;
mod resolving;
mod upstream;
mod verdicts;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use super::*;
use crate::access_log::{Entry, FILE};
use crate::host_addresses::HostAddresses;
use crate::resolver::{Resolver, Sources};
use sandbox_spec::domain::DomainName;
use sandbox_spec::policy::{NamedVerdict, Policy, Preset, Reason, Rule, Transport, Verdict};
use upstream::Upstream;

/// The host's addresses in these tests.
const HOSTS: [&str; 2] = ["192.168.7.20", "203.0.113.7"];

struct Lab {
    policy_engine: Rc<PolicyEngine>,
    upstream: Upstream,
    directory: tempfile::TempDir,
}

impl Lab {
    async fn open(preset: Preset, rules: &[&str]) -> Self {
        Self::new(preset, rules, None).await
    }

    async fn proxy(rules: &[&str], list: &str) -> Self {
        Self::new(Preset::Public, rules, Some(list)).await
    }

    async fn new(preset: Preset, rules: &[&str], list: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let allowlist = directory.path().join("allowlist.txt");
        if let Some(list) = list {
            std::fs::write(&allowlist, list).unwrap();
        }
        let hosts = directory.path().join("hosts");
        std::fs::write(
            &hosts,
            "192.0.2.99 known.example\n10.9.9.9 inside.example\n",
        )
        .unwrap();
        let config = PolicyEngineConfig {
            policy: policy(preset, rules),
            mode: match list {
                None => Mode::Open,
                Some(_) => Mode::Proxy { allowlist },
            },
            dns: Some(upstream.address),
            ipv6: true,
            log_directory: directory.path().into(),
        };
        let sources = Sources {
            hosts,
            resolv_conf: directory.path().join("resolv.conf"),
        };
        let resolver = Resolver::with_sources(config.dns, sources);
        let own = HostAddresses::fixed(HOSTS.map(|text| text.parse().unwrap()));
        Self {
            policy_engine: PolicyEngine::with_host(config, own, resolver).unwrap(),
            upstream,
            directory,
        }
    }

    fn list(&self) -> PathBuf {
        self.directory.path().join("allowlist.txt")
    }

    fn log(&self) -> Vec<Entry> {
        std::fs::read_to_string(self.directory.path().join(FILE))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn policy(preset: Preset, rules: &[&str]) -> Policy {
    Policy {
        preset,
        rules: rules
            .iter()
            .map(|text| text.parse::<Rule>().unwrap())
            .collect(),
    }
}

fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
