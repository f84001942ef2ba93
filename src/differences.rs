//! The settings of a start that differ from those of a running sandbox.

use sandbox_protocol::Record;
use sandbox_spec::secret::SecretSummary;

use crate::options::StartOptions;
use crate::state::StateLayout;

/// Returns the names of the set options that differ from those of the running sandbox, which keeps
/// its own.
pub(crate) fn between(asked: &StartOptions, layout: &StateLayout) -> Vec<&'static str> {
    let Ok(Some(record)) = Record::read(&layout.record()) else {
        return Vec::new();
    };
    let running = &record.network;
    let is_unknown_secret = |name: &str, hosts| {
        let is_same = |other: &SecretSummary| (&*other.name, &other.hosts) == (name, hosts);
        !running.secrets.iter().any(is_same)
    };
    let differences = [
        ("cpus", asked.cpus.is_some_and(|cpus| cpus != record.cpus)),
        (
            "memory",
            asked.memory.is_some_and(|memory| memory != record.memory),
        ),
        ("disk", asked.disk.is_some_and(|disk| disk != record.disk)),
        (
            "image",
            asked
                .image
                .as_ref()
                .is_some_and(|image| *image != record.image),
        ),
        (
            "nested-virtualization",
            asked
                .nested_virtualization
                .is_some_and(|nested| nested != record.nested_virtualization),
        ),
        (
            "share-mode",
            asked
                .share_mode
                .is_some_and(|mode| mode != record.share_mode),
        ),
        (
            "share",
            !asked.shares.is_empty() && asked.shares.len() != record.shares.len(),
        ),
        (
            "network",
            asked
                .network
                .is_some_and(|preset| preset != running.policy.preset),
        ),
        (
            "net-rule",
            !asked.net_rules.is_empty() && !running.policy.rules.starts_with(&asked.net_rules),
        ),
        (
            "proxy",
            asked.proxy.is_some_and(|proxy| proxy != running.proxy),
        ),
        (
            "publish",
            asked
                .publish
                .iter()
                .any(|port| !running.published.contains(port)),
        ),
        ("dns", asked.dns.is_some_and(|dns| Some(dns) != running.dns)),
        (
            "max-connections",
            asked
                .max_connections
                .is_some_and(|limit| limit != running.max_connections),
        ),
        (
            "bandwidth",
            asked
                .bandwidth
                .is_some_and(|bandwidth| Some(bandwidth) != running.bandwidth),
        ),
        (
            "secret",
            asked
                .secrets
                .iter()
                .chain(&asked.secret_files)
                .any(|secret| is_unknown_secret(&secret.name, &secret.hosts)),
        ),
    ];
    let differing = differences.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(name, _)| name).collect()
}
